"""What a user has is read as what it is, and gives the same clips whichever form it is in."""

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from user_corpus_helpers import CAPTION, tone

from bagpiper_jax.corpora import user
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.manifest import read_manifest

WORDS = "hello there"


def wav(seconds=1.0, rate=8_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(seconds, rate), rate, format="WAV")
    return file.getvalue()


def built(tmp_path, source, **settings):
    directory = user.build(
        user.UserCorpusConfig(
            str(source), str(tmp_path / "out"), **{"workers": 1, "max_reject_frac": 0.9, **settings}
        )
    )
    rejects = [json.loads(line) for line in (directory / "rejects.jsonl").read_text().splitlines()]
    return (
        list(read_manifest(directory)),
        rejects,
        json.loads((directory / "corpus.json").read_text())["kind"],
    )


@pytest.fixture
def there(tmp_path) -> Path:
    """A folder with three recordings at two depths."""
    folder = tmp_path / "there"
    for name in ("a.wav", "b.wav", "deep/c.wav"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(wav(1.0 + len(name) / 10))
    return folder


def jsonl(path, values, packed=False):
    text = "".join(json.dumps(value) + "\n" for value in values)
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return path


def test_a_folder_with_words_beside_its_audio(tmp_path, there):
    (there / "a.txt").write_text(CAPTION)
    (there / "b.json").write_text(
        json.dumps({"transcript": WORDS, "speaker": "ann", "domain": "speech", "id": "b"})
    )
    clips, rejects, kind = built(tmp_path, there)
    assert kind == "folder" and [clip.caption == CAPTION for clip in clips] == [True, False]
    assert clips[1].annotation["turns"] == [
        {"speaker": "ann", "start": 0.0, "end": clips[1].duration, "text": WORDS}
    ]
    assert [(Path(r["file"]).name, r["reason"]) for r in rejects] == [("c.wav", "no_content")]
    assert "uncaptioned" in rejects[0]["remedy"]
    clips, rejects, _ = built(tmp_path, there, uncaptioned=True)
    assert len(clips) == 3 and not rejects and clips[2].caption is None


@pytest.mark.parametrize(
    "delimiter, name", [(",", "mine.csv"), (";", "mine.csv"), ("\t", "mine.tsv"), (",", "metadata.csv")]
)
def test_a_table(tmp_path, there, delimiter, name):
    with open(there / name, "w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["file_name", "caption", "start", "end", "split"])
        writer.writerows(
            [["a.wav", CAPTION, "0.25", "1", "test"], ["deep/c.wav", "An even, steady tone.", "", "", ""]]
        )
    clips, rejects, kind = built(tmp_path, there if name == "metadata.csv" else there / name)
    assert not rejects and kind == ("folder with a table" if name == "metadata.csv" else "table")
    assert [(c.caption, c.start, c.end) for c in clips] == [
        (CAPTION, 0.25, 1.0),
        ("An even, steady tone.", None, None),
    ]
    assert clips[0].split == "test" and clips[0].duration == 0.75


def test_a_table_of_common_voice(tmp_path, there):
    (there / "validated.tsv").write_text(f'client_id\tpath\tsentence\tlocale\nx1\ta.wav\tSay "{WORDS}\tfr\n')
    clips, rejects, _ = built(tmp_path, there / "validated.tsv")
    (turn,) = clips[0].annotation["turns"]
    assert (
        not rejects
        and turn["text"] == f'Say "{WORDS}'
        and (turn["speaker"], turn["language"]) == ("x1", "fr")
    )


def test_a_manifest_of_nemo(tmp_path, there):
    lines = [
        {"audio_filepath": "a.wav", "duration": 1.5, "text": WORDS, "lang": "de"},
        {
            "audio_filepath": "deep/c.wav",
            "offset": 0.5,
            "duration": 0.75,
            "text": "and again",
            "speaker": "bob",
        },
        {"audio_filepath": "b.wav", "offset": "x", "duration": 1, "text": "no"},
    ]
    clips, rejects, kind = built(tmp_path, jsonl(there / "train_manifest.json", lines))
    assert kind == "NeMo manifest" and [r["reason"] for r in rejects] == ["bad_times"]
    assert [c.annotation["turns"][0]["text"] for c in clips] == [WORDS, "and again"] and clips[
        0
    ].language == "de"
    assert (clips[1].start, clips[1].end, clips[1].duration) == (0.5, 1.25, 0.75)


def recording(name, path, seconds):
    return {"id": name, "sources": [{"type": "file", "channels": [0], "source": path}], "sampling_rate": 8000,
            "num_samples": round(seconds * 8000), "duration": seconds, "channel_ids": [0]}  # fmt: skip


def supervision(name, recording_id, start, duration, text, **more):
    return {
        "id": name,
        "recording_id": recording_id,
        "start": start,
        "duration": duration,
        "channel": 0,
        "text": text,
        **more,
    }


@pytest.mark.parametrize("packed", [True, False])
def test_recordings_and_supervisions_of_lhotse(tmp_path, there, packed):
    end = ".jsonl.gz" if packed else ".jsonl"
    (there / "long.wav").write_bytes(wav(45))
    jsonl(
        there / f"mine_recordings_dev{end}",
        [recording("r1", "a.wav", 1.5), recording("r2", "long.wav", 45)],
        packed,
    )
    said = [
        supervision("s1", "r1", 0.2, 1.0, WORDS, speaker="ann", gender="female"),
        supervision("s2", "r2", 2, 20, "a long turn", speaker="ann"),
        supervision("s3", "r2", 26, 15, "an answer", speaker="bob"),
    ]
    jsonl(there / f"mine_supervisions_dev{end}", said, packed)
    clips, rejects, kind = built(tmp_path, there)
    assert kind == "Lhotse recordings" and not rejects
    assert [[t["text"] for t in c.annotation["turns"]] for c in clips] == [
        [WORDS],
        ["a long turn"],
        ["an answer"],
    ]
    assert clips[0].annotation["speakers"] == [{"id": "ann", "gender": "female"}]
    assert 22 <= clips[1].end <= 26 and clips[2].annotation["turns"][0]["start"] == 26 - clips[2].start


def test_cuts_of_lhotse(tmp_path, there):
    cut = {
        "id": "c1", "type": "MonoCut", "start": 0.5, "duration": 0.75, "channel": 0,
        "recording": recording("r", "deep/c.wav", 1.9), "supervisions": [supervision("s", "r", -0.25, 0.75, WORDS)],
    }  # fmt: skip
    mixed = {"id": "m", "type": "MixedCut", "tracks": []}
    clips, rejects, kind = built(tmp_path, jsonl(there / "cuts.jsonl.gz", [cut, mixed], True))
    assert kind == "Lhotse cuts" and [r["reason"] for r in rejects] == ["unsupported_audio"]
    assert (clips[0].id, clips[0].start, clips[0].end) == ("c1", 0.5, 1.25)
    assert clips[0].annotation["turns"] == [{"speaker": "S1", "start": 0.0, "end": 0.5, "text": WORDS}]


@pytest.mark.parametrize("segments", [True, False])
def test_a_data_directory_of_kaldi(tmp_path, there, segments):
    data = there / "data/train"
    data.mkdir(parents=True)
    (data / "wav.scp").write_text("r1 a.wav\nr2 deep/c.wav\nr3 sph2pipe -f wav x.sph |\n")
    names = ["u1", "u2", "u3"] if segments else ["r1", "r2", "r3"]
    if segments:
        (data / "segments").write_text("u1 r1 0.25 1.0\nu2 r2 0 -1\nu3 r3 0 1\n")
    (data / "text").write_text("".join(f"{name} {WORDS} {name}\n" for name in names))
    (data / "utt2spk").write_text("".join(f"{name} ann\n" for name in names))
    clips, rejects, kind = built(tmp_path, data)
    assert kind == "Kaldi data directory" and [r["reason"] for r in rejects] == ["piped_audio"]
    assert [c.id for c in clips] == names[:2] and clips[0].start == (0.25 if segments else None)
    assert [c.annotation["turns"][0]["text"] for c in clips] == [f"{WORDS} {name}" for name in names[:2]]
    assert {c.annotation["speakers"][0]["id"] for c in clips} == {"ann"}


def rows():
    sounds = [{"bytes": wav(1 + n / 4), "path": f"{n}.wav"} for n in range(3)]
    return pyarrow.table({
        "audio": [*sounds, {"bytes": None, "path": "gone.wav"}], "text": [WORDS, "two", "three", "four"],
        "speaker_id": [7, 7, 8, 8], "up_votes": [1, 2, 3, 4],
    })  # fmt: skip


@pytest.mark.parametrize("form", ["saved", "hub", "file"])
def test_a_data_set_of_hugging_face(tmp_path, form):
    """As `Dataset.save_to_disk` writes it, an Arrow stream, and as the Hub has it, Parquet."""
    source = tmp_path / "set"
    if form == "saved":
        for split in ("train", "test"):
            (source / split).mkdir(parents=True)
            (source / split / "state.json").write_text("{}")
            with pyarrow.ipc.new_stream(
                source / split / "data-00000-of-00001.arrow", rows().schema
            ) as stream:
                stream.write_table(rows().slice(0, 2) if split == "train" else rows().slice(2, 2))
        (source / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    else:
        (source / "data").mkdir(parents=True)
        for split, part in (("train", rows().slice(0, 2)), ("test", rows().slice(2, 2))):
            pyarrow.parquet.write_table(part, source / f"data/{split}-00000-of-00001.parquet")
        source = source / "data/train-00000-of-00001.parquet" if form == "file" else source
    clips, rejects, kind = built(tmp_path, source)
    assert kind == "data set" and sorted(c.annotation["turns"][0]["text"] for c in clips) == sorted(
        [WORDS, "two", "three"][: 2 if form == "file" else 3]
    )
    assert {c.annotation["turns"][0]["text"]: c.split for c in clips}.get("three", "test") == "test"
    assert [r["reason"] for r in rejects] == ([] if form == "file" else ["no_audio"])
    assert clips[0].annotation["speakers"] == [{"id": "8" if "three" in clips[0].caption else "7"}]


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda p: (p / "x").mkdir(), "holds no audio"),
        (lambda p: (p / "x.csv").write_text("one,two\n1,2\n"), "none is known"),
        (lambda p: (p / "x.parquet").write_bytes(b"PAR1nothing"), "no whole table"),
        (lambda p: (p / "cuts.jsonl.gz").write_bytes(b"\x1f\x8bnothing"), "is damaged"),
        (lambda p: None, "does not exist"),
    ],
)
def test_what_is_no_source_is_said(tmp_path, make, said):
    make(tmp_path)
    path = next((p for p in tmp_path.iterdir()), tmp_path / "nothing")
    with pytest.raises(CorpusError, match=said):
        built(tmp_path / "built", path)


def test_the_corpus_may_not_lie_within_its_source(tmp_path, there):
    with pytest.raises(CorpusError, match="lies in the source"):
        user.build(user.UserCorpusConfig(str(there), str(there / "out")))
