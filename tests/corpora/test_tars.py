"""Tars and tables whose members are not all ours, or whose audio would be lost: passed over and counted, or refused."""

import io
import tarfile

import pytest
from written_sources import as_json, flac, write_table, write_tar

from bagpiper_jax.corpora.parquet import ParquetReader
from bagpiper_jax.corpora.tars import TarReader
from bagpiper_jax.outcomes import RecordError

LITTER = ["._{}", ".DS_Store", "__MACOSX/._{}", "__MACOSX/{}", "Thumbs.db", "desktop.ini", ".{}.swp", "@eaDir/{}/x.txt",
          "PaxHeaders.17/{}", "./PaxHeader/{}", ".Trashes/{}", "a/.AppleDouble/{}", "pax_global_header"]  # fmt: skip


@pytest.mark.parametrize("form", LITTER)
def test_what_other_tools_leave_in_tars_is_passed_over_and_counted(tmp_path, form, caplog):
    """Between the members of a sample, where it would tear them apart, and also where it looks like audio."""
    members = []
    for number in range(3):
        for ending, data in (("flac", flac(number)), ("txt", f"Bird {number} sings.".encode())):
            litter = form.format(f"bird{number}.{ending}")
            members += [(litter, b"\x00\x05\x16\x07" + bytes(78)), (f"./bird{number}.{ending}", data)]
    write_tar(tmp_path / "x.tar", members)
    reader = TarReader([tmp_path / "x.tar"], "train")
    assert [reader[i].clip.caption for i in range(len(reader))] == [f"Bird {i} sings." for i in range(3)]
    assert reader.passed_over.total() == 6 and caplog.text.count("not read") == 1
    (name,) = reader.passed_over
    assert f"{name} 6" in caplog.text


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_extended_headers_are_no_members(tmp_path, form):
    name = "größer/" + "x" * 150
    with tarfile.open(
        tmp_path / "x.tar", "w", format=form, pax_headers={"comment": "made"} if form else None
    ) as tar:
        for ending, data in (("flac", flac(1)), ("txt", b"One.")):
            info = tarfile.TarInfo(f"{name}.{ending}")
            info.size, info.mtime = len(data), 1.5 if form == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(data))
    reader = TarReader([tmp_path / "x.tar"], "train")
    assert len(reader) == 1 and reader[0].clip.caption == "One." and not reader.passed_over


@pytest.mark.parametrize(
    "ending", ["oga", "mp4", "webm", "mka", "wma", "MP3", "snd", "unheard_of", "take1.bin"]
)
def test_audio_is_known_by_its_ending_or_by_how_it_begins(tmp_path, ending):
    write_tar(tmp_path / "x.tar", [("one.txt", b"One."), (f"one.{ending}", flac(1))])
    clip = TarReader([tmp_path / "x.tar"], "train")[0]
    assert clip.clip.caption == "One." and clip.clip.text is None and list(clip.sounds.values()) == [flac(1)]


def test_members_that_are_not_read_are_counted_and_never_leave_a_text_behind(tmp_path, caplog):
    members = [("a.flac", flac(1)), ("a.txt", b"A."), ("a.cls", b"7"), ("b.pcm", b"\1\0" * 900), ("b.txt", b"B."),
               ("c.txt", b"C."), ("d.json", as_json(text="D.", audio="d.wav")), ("e.jpg", b"\xff\xd8\xff"),
               ("e.txt", b"E."),
               ("f.json", as_json(text="F.", audio_filepath="f.wav")), ("g.json", as_json(caption="G.", path="x.wav")),
               ("g.flac", flac(2))]  # fmt: skip
    write_tar(tmp_path / "x.tar", members)
    reader = TarReader([tmp_path / "x.tar"], "train")
    found = {}
    for number in range(len(reader)):
        try:
            clip = reader[number].clip
            found[clip.id] = clip.caption or clip.text
        except RecordError as error:
            found[reader.origin(number).rpartition(" ")[2]] = error.reason
    assert found == {"a": "A.", "b": "unknown_member", "c": "C.", "d": "unread_audio", "e": "unknown_member",
                     "f": "unread_audio", "g": "G."}  # fmt: skip
    assert reader.passed_over == {"*.cls": 1, "*.pcm": 1, "*.jpg": 1} and "*.cls 1" in caplog.text


@pytest.mark.parametrize("column", ["audio_filepath", "path", "speech", "recording"])
def test_rows_whose_audio_would_be_dropped_are_no_documents(tmp_path, column):
    cell = {"audio_filepath": "a", "path": "x/a.wav", "speech": {"bytes": flac(1), "path": None},
            "recording": [{"source": "a.oga"}]}[column]  # fmt: skip
    write_table(tmp_path / "hub/x.parquet", [{"text": "Words.", column: cell, "duration": 1.0}])
    reader = ParquetReader([tmp_path / "hub/x.parquet"], "train")
    with pytest.raises(RecordError, match=f"unread_audio: {column} names audio"):
        reader[0]
