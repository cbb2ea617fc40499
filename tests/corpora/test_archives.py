"""Archives of omniio and arkive through the corpus builder: payloads found by their spans, faults counted by name."""

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from bagpiper_jax import audio
from bagpiper_jax.corpora import espnet
from bagpiper_jax.corpora.espnet import archives
from bagpiper_jax.corpora.espnet.samples import EspnetReader
from bagpiper_jax.corpora.espnet.specifiers import Specifier
from bagpiper_jax.manifest import read_manifest
from bagpiper_jax.outcomes import RecordError

TIMES = ("start_time", "end_time")


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    pcm = np.random.default_rng(seed).integers(-3000, 3000, round(16000 * seconds))
    return (pcm / 32768).astype(np.float32)


def zstd(text: str) -> bytes:
    buffer = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(buffer, "zstd") as stream:
        stream.write(text.encode())
    return buffer.getvalue().to_pybytes()


def archive(path, payloads: dict[str, bytes], layout: str = "arkive", **more):
    """A table and its .bin, as the library of that name lays them out; `more` gives further columns by id."""
    rows, data = [], b"\0" * 7
    for name, payload in payloads.items():
        begin, end = len(data), len(data) + len(payload)
        spans = {
            "arkive": {"utt_id": name, "start_byte_offset": begin, "file_size_bytes": end - begin},
            "omniio": {"id": name, "start_byte": begin, "end_byte": end, "bin_index": 0},
        }[layout]
        bin_path = "/where/it/was/written/" + path.with_suffix(".bin").name
        rows.append({"path": bin_path, **spans, **{k: v.get(name) for k, v in more.items()}})
        data += payload
    path.with_suffix(".bin").write_bytes(data)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return rows


def dataset(root, entries: dict[str, tuple[str, str]], samples: list[str]) -> None:
    listed = [{"name": n, "path": p, "reader": r} for n, (p, r) in entries.items()]
    (root / "set.json").write_text(json.dumps({"data_entry": listed, "samples": samples}))


@pytest.fixture
def captioned(tmp_path):
    """Four clips: a whole one, a part of a recording, one whose text is damaged, one without text."""
    whole = {name: audio.encode_flac(sound(1.0, i)) for i, name in enumerate(("a", "b", "c", "d"))}
    archive(tmp_path / "audio.parquet", whole, start_time={"b": 0.25}, end_time={"b": 0.75})
    texts = {name: zstd(f"This is {name}!") for name in "abc"}
    texts["c"] = texts["c"][:-3]
    archive(tmp_path / "text.parquet", texts, "omniio")
    entries = {"audio1": ("audio.parquet", "arkive_audio"), "text1": ("text.parquet", "omniio_text")}
    dataset(tmp_path, entries, ["a", "b", "c", "d"])
    return tmp_path


def test_archived_audio_and_text_become_a_corpus(captioned):
    config = espnet.EspnetCorpusConfig(
        train=("audio_to_text:set:set.json",), directory=str(captioned / "corpus"), root=str(captioned),
        max_reject_frac=0.5, workers=1,
    )  # fmt: skip
    espnet.build(config)
    clips = {clip.id: clip for clip in read_manifest(captioned / "corpus")}
    assert {name: clip.caption for name, clip in clips.items()} == {
        "set.a": "This is a!",
        "set.b": "This is b!",
    }
    np.testing.assert_array_equal(audio.read(captioned / "corpus" / clips["set.a"].audio), sound(1.0, 0))
    np.testing.assert_array_equal(
        audio.read(captioned / "corpus" / clips["set.b"].audio), sound(1.0, 1)[4000:12000]
    )
    rejects = [json.loads(line) for line in open(captioned / "corpus" / "rejects.jsonl")]
    assert {r["id"]: r["reason"] for r in rejects} == {"c": "corrupt_payload", "d": "missing_entry"}
    assert "text.bin at" in next(r["detail"] for r in rejects if r["id"] == "c")


def test_the_reader_gives_the_same_without_a_corpus(captioned):
    reader = EspnetReader([Specifier("audio_to_text", "set", captioned / "set.json")], captioned, "train")
    found = {}
    for number in range(len(reader)):
        try:
            found[reader.origin(number).rpartition(" ")[2]] = reader[number]
        except RecordError as error:
            found[reader.origin(number).rpartition(" ")[2]] = error.reason
    assert found["c"] == "corrupt_payload" and found["d"] == "missing_entry" and len(found) == 4
    part = found["b"]
    assert part.clip.caption == "This is b!" and part.clip.directions == ["audio_to_caption"]
    np.testing.assert_array_equal(audio.read(part.sounds["set.b"]), sound(1.0, 1)[4000:12000])


def test_archived_dialogues_are_read(tmp_path):
    turns = [["user", "text", "Say ä."], ["assistant", "text", "ä"]]
    archive(tmp_path / "talk.parquet", {"one": zstd(json.dumps(turns)), "torn": zstd("[[")}, "omniio")
    dataset(tmp_path, {"dialogue": ("talk.parquet", "omniio_dialogue")}, ["one", "torn"])
    reader = EspnetReader([Specifier("dialogue", "set", tmp_path / "set.json")], tmp_path, "train")
    assert reader[0].clip.dialogue == turns
    with pytest.raises(RecordError, match="bad_json"):
        reader[1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"file_size_bytes": 10**6}, "truncated"),
        ({"file_size_bytes": 0}, "bad_line"),
        ({"start_byte_offset": -1}, "bad_line"),
        ({"path": "/nowhere/x.bin"}, "unreadable_file"),
        ({"path": None}, "bad_line"),
    ],
)
def test_rows_that_point_nowhere_are_rejected(tmp_path, change, reason):
    (row,) = archive(tmp_path / "audio.parquet", {"a": audio.encode_flac(sound(1.0))})
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row | change]), tmp_path / "audio.parquet")
    (tmp_path / "t.txt").write_text("a words\n")
    dataset(tmp_path, {"audio1": ("audio.parquet", "arkive_audio"), "text1": ("t.txt", "text")}, ["a"])
    reader = EspnetReader([Specifier("audio_to_text", "set", tmp_path / "set.json")], tmp_path, "train")
    with pytest.raises(RecordError) as caught:
        [reader[number] for number in range(len(reader))]
    assert caught.value.reason in (reason, "missing_entry")


@pytest.mark.parametrize("name", [5, ["a.wav"], {}])
def test_a_message_that_names_no_audio_is_a_fault_of_its_sample(tmp_path, name):
    turns = [["user", "audio", name], ["assistant", "text", "ä"]]
    archive(tmp_path / "talk.parquet", {"one": zstd(json.dumps(turns))})
    dataset(tmp_path, {"dialogue": ("talk.parquet", "arkive_dialogue")}, ["one"])
    reader = EspnetReader([Specifier("dialogue", "set", tmp_path / "set.json")], tmp_path, "train")
    assert tmp_path / "set.json" in reader.files()
    with pytest.raises(RecordError, match="bad_dialogue"):
        reader[0]


@pytest.mark.parametrize("way", ["/tmp", "..", "link", "elsewhere"])
def test_archives_reach_no_file_outside_their_folder(tmp_path, way):
    """Neither their tables nor their dialogues: both may be anyone's."""
    root = tmp_path / "set"
    root.mkdir()
    (tmp_path / "secret.bin").write_bytes(audio.encode_flac(sound(1.0)))
    (root / "link").symlink_to(tmp_path)
    prefix = {"/tmp": str(tmp_path), "..": "..", "link": "link", "elsewhere": str(tmp_path / "x/..")}[way]
    turns = [["user", "audio", f"{prefix}/secret.bin"], ["assistant", "text", "ä"]]
    archive(root / "talk.parquet", {"one": zstd(json.dumps(turns))})
    dataset(root, {"dialogue": ("talk.parquet", "arkive_dialogue")}, ["one"])
    with pytest.raises(RecordError, match="outside_audio"):
        EspnetReader([Specifier("dialogue", "set", root / "set.json")], root, "train")[0]
    (row,) = archive(root / "audio.parquet", {"a": (tmp_path / "secret.bin").read_bytes()})
    row |= {"path": f"{prefix}/secret.bin", "start_byte_offset": 0}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), root / "audio.parquet")
    (root / "t.txt").write_text("a words\n")
    dataset(root, {"audio1": ("audio.parquet", "arkive_audio"), "text1": ("t.txt", "text")}, ["a"])
    with pytest.raises(RecordError, match="unreadable_file"):
        EspnetReader([Specifier("audio_to_text", "set", root / "set.json")], root, "train")[0]


def test_a_payload_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 1000)
    (tmp_path / "x.bin").write_bytes(zstd("a" * 100_000))
    with pytest.raises(RecordError, match="too_large"):
        archives.payload_text(tmp_path / "x.bin", 0, (tmp_path / "x.bin").stat().st_size)
