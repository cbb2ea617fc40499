"""Sources that carry their audio, through the real cache job: each faulty record is counted and named."""

import contextlib
import io
import json
import tarfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import seqio
from task_helpers import LAYOUT, cache_mixture, cached, config, said
from written_sources import as_json, flac, sound, write_table, write_tar

from bagpiper_jax import audio
from bagpiper_jax.batch import BatchShape
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.tars import TarReader
from bagpiper_jax.data.loader import Loader
from bagpiper_jax.outcomes import RecordError
from tasks import mixtures, pretraining, settings, sft
from tasks.clip_source import block
from tasks.file_sources import EspnetSource, ParquetSource, TarSource

GOOD = [
    ("a/one.flac", flac(1)),
    ("a/one.json", as_json(caption="One.", domain="sound", audio="/where/it/was.wav")),
    ("a/two.txt", "Zwei, größer.".encode()),
    ("a/two.wav", b""),  # filled below
    (
        "three.json",
        as_json(annotation={"duration": 0.5, "sounds": [{"label": "bell", "start": 0.1, "end": 0.4}]}),
    ),
    ("three.flac", flac(3)),
]
FAULTY = {
    "deaf": ([("deaf.txt", b"Says something.")], "skipped"),
    "silent": ([("silent.flac", flac(1))], "no_content"),
    "torn": ([("torn.json", b'{"caption"'), ("torn.flac", flac(1))], "bad_json"),
    "list": ([("list.json", b"[]"), ("list.flac", flac(1))], "bad_json"),
    "nan": ([("nan.json", b'{"caption": NaN}'), ("nan.flac", flac(1))], "bad_json"),
    "number": ([("number.json", as_json(caption=3)), ("number.flac", flac(1))], "wrong_type"),
    "noise": ([("noise.txt", b"Noise."), ("noise.flac", b"no such format")], "audio_corrupt"),
    "short": ([("short.txt", b"Short."), ("short.flac", flac(1, 0.01))], "audio_too_short"),
    "latin": ([("latin.txt", b"\xff\xfe"), ("latin.flac", flac(1))], "bad_text"),
    "pickle": ([("pickle.txt", b"P."), ("pickle.flac", flac(1)), ("pickle.pyd", b"cos\nsystem")], "pickled_member"),
    "both": ([("both.txt", b"B."), ("both.flac", flac(1)), ("both.wav", flac(2))], "several_audios"),
    "domain": ([("domain.json", as_json(caption="D.", domain="noise")), ("domain.flac", flac(1))], "bad_domain"),
}  # fmt: skip


@pytest.fixture
def tar(tmp_path):
    wav = io.BytesIO()
    import soundfile

    soundfile.write(wav, sound(2), 16000, format="WAV", subtype="PCM_16")
    good = [(name, data or wav.getvalue()) for name, data in GOOD]
    write_tar(tmp_path / "tars/train-0.tar", good)
    faulty = [member for members, _ in FAULTY.values() for member in members]
    write_tar(tmp_path / "tars/train-1.tar", [*faulty, ("a/one.txt", b"Again."), ("a/one.flac", flac(9))])
    with tarfile.open(tmp_path / "tars/train-1.tar", "a") as archive:
        link = tarfile.TarInfo("link.flac")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return tmp_path


def test_samples_of_tars_are_heard_and_every_fault_is_named(tar):
    cache, rejects = cached(tar, TarSource("tars", {"train": "train-*.tar"}), splits=("train",))
    texts = said(cache)
    assert len(texts) == 3 and {"One.", "Zwei, größer."} <= set(texts.values())
    assert "bell" in texts["three"]
    heard = {r.id: r.messages()[0].content for r in map(cache.read, range(3))}
    for seed, (name, waveform) in enumerate(sorted(heard.items(), key=lambda pair: pair[0] == "three"), 1):
        np.testing.assert_array_equal(waveform, sound(seed), err_msg=name)
    reasons = {key: reason for key, (_, reason) in FAULTY.items() if reason != "skipped"}
    reasons |= {"a/one": "duplicate_id", "link": "not_a_file"}
    found = {origin.rpartition(" ")[2]: reason for origin, (reason, _) in rejects.items()}
    carried = {"noise", "short"}  # found once the clip has its id
    assert {k: v for k, v in found.items() if k not in carried} == {
        k: v for k, v in reasons.items() if k not in carried
    }
    assert found["noise"] == "audio_corrupt" and found["short"] == "audio_too_short"
    assert all("train-1.tar: " in detail for _, detail in rejects.values())
    assert "train-1.tar: noise" in rejects["noise"][1]
    counts = cache.manifest["counts"]
    assert counts["skipped no_audio"] == 1 and sum(counts.values()) == cache.manifest["inputs"] == 17


def test_a_shard_reads_its_own_run_of_records(tar):
    settings.configure(settings.Settings(data_root=str(tar)))
    source = TarSource("tars", {"train": "train-*.tar"})
    every = [e["origin"] for e in source.get_dataset("train").as_numpy_iterator()]
    for shards in (1, 2, 5, 17, 20):
        parts = [source.get_dataset("train", shard_info=seqio.ShardInfo(i, shards)) for i in range(shards)]
        assert [e["origin"] for part in parts for e in part.as_numpy_iterator()] == every
    assert block(17, seqio.ShardInfo(16, 17)) == (16, 17)


def test_tars_that_cannot_be_trusted_are_refused(tar):
    settings.configure(settings.Settings(data_root=str(tar)))
    whole = (tar / "tars/train-0.tar").read_bytes()
    write_tar(tar / "tars/zipped.tar", GOOD, "w:gz")
    broken = bytearray(whole)
    broken[1536 + -(-len(flac(1)) // 512) * 512 - 512] ^= 0xFF  # in the name of the second member's header
    for name, data, reason in (
        ("zipped", (tar / "tars/zipped.tar").read_bytes(), "no whole, uncompressed tar"),
        ("noise", b"RIFF" * 300, "no whole, uncompressed tar"),
        ("cut", whole[: len(whole) // 2], "no whole, uncompressed tar|mark of its end"),
        ("endless", whole[:-10240].rstrip(b"\0"), "no whole|mark of its end"),
        ("joined", whole + whole, "but data"),
    ):
        (tar / f"tars/{name}.tar").write_bytes(data)
        with pytest.raises(CorpusError, match=reason):
            TarSource("tars", {"train": f"{name}.tar"}).reader("train")
    with pytest.raises(CorpusError, match="no file matches"):
        TarSource("tars", {"train": "trian-*.tar"}).reader("train")
    with pytest.raises(CorpusError, match="leaves"):
        TarSource("tars", {"train": "../*.tar"}).reader("train")


def test_no_flipped_bit_loses_a_sample(tar):
    """Each flip is a refusal of the tar, a rejection, or inside a payload that tar has no checksum for."""
    whole = (tar / "tars/train-0.tar").read_bytes()
    rng, refused = np.random.default_rng(0), 0
    for _ in range(300):
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        (tar / "tars/flipped.tar").write_bytes(data)
        try:
            reader = TarReader([tar / "tars/flipped.tar"], "train")
        except CorpusError:
            refused += 1
            continue
        assert len(reader) == 3
        for number in range(3):
            with contextlib.suppress(RecordError):
                assert reader[number].sounds
    assert refused > 10


def test_a_changed_tar_makes_another_cache(tar):
    source = TarSource("tars", {"train": "train-0.tar"})
    settings.configure(settings.Settings(data_root=str(tar)))
    before = source.audio_digest()
    (tar / "tars/train-0.tar").write_bytes((tar / "tars/train-1.tar").read_bytes())
    assert source.audio_digest() != before


def test_rows_of_the_hub_layout_are_clips(tmp_path):
    rows = [
        {"audio": {"bytes": flac(i), "path": f"{i}.flac"}, "qwen_caption": f"Row {i}.", "id": f"r{i}"}
        for i in range(5)
    ]
    rows[3]["audio"]["bytes"] = None
    rows[4]["qwen_caption"] = None
    write_table(tmp_path / "hub/train-0.parquet", rows, row_group_size=2)
    source = ParquetSource(
        "hub", {"train": "train-*.parquet"}, columns={"caption": "qwen_caption"}, domain="sound"
    )
    cache, rejects = cached(tmp_path, source, splits=("train",))
    assert said(cache) == {f"r{i}": f"Row {i}." for i in range(3)}
    np.testing.assert_array_equal(cache.read(1).messages()[0].content, sound(1))
    assert {k: v[0] for k, v in rejects.items()} == {
        "train-0.parquet: row 3": "no_audio", "train-0.parquet: row 4": "no_content",
    }  # fmt: skip
    assert "'3.flac'" in rejects["train-0.parquet: row 3"][1]


@pytest.mark.parametrize("form", ["triples", "structs", "json"])
def test_dialogues_of_tables_are_used_as_they_are(tmp_path, form):
    turns = [["user", "audio", "q.flac"], ["user", "text", "What?"], ["assistant", "text", "Noise."]]
    cell = {
        "triples": turns,
        "structs": [dict(zip(("role", "modality", "content"), turn, strict=True)) for turn in turns],
        "json": json.dumps(turns),
    }[form]
    bad = {
        "triples": [["user", "text"]],
        "structs": [{"role": "martian", "modality": "text", "content": "x"}],
    }
    row = {"audio": {"bytes": flac(5), "path": "q.flac"}, "messages": cell}
    write_table(tmp_path / "talk/x.parquet", [row, row | {"messages": bad.get(form, "{")}])
    source = ParquetSource("talk", {"train": "x.parquet"}, columns={"dialogue": "messages"})
    cache, rejects = cached(tmp_path, source, sft.understanding, splits=("train",))
    assert list(said(cache).values()) == ["Noise."]
    np.testing.assert_array_equal(cache.read(0).messages()[0].content, sound(5))
    expected = {"triples": "bad_dialogue", "structs": "unknown_role", "json": "bad_json"}[form]
    assert {k: v[0] for k, v in rejects.items()} == {"x.parquet: row 1": expected}


def test_tables_that_cannot_be_used_are_refused(tmp_path):
    settings.configure(settings.Settings(data_root=str(tmp_path)))
    write_table(tmp_path / "hub/x.parquet", [{"wave": b"x", "words": "y"}])
    (tmp_path / "hub/noise.parquet").write_bytes(b"PAR1 or not")
    for source, reason in (
        (ParquetSource("hub", {"train": "noise.parquet"}), "is no Parquet table"),
        (ParquetSource("hub", {"train": "x.parquet"}), "no column to learn from.*it has: wave, words"),
        (ParquetSource("hub", {"train": "x.parquet"}, columns={"caption": "text"}), "has no column text"),
        (ParquetSource("hub", {"train": "x.parquet"}, columns={"captoin": "words"}), "which are no fields"),
    ):
        with pytest.raises(CorpusError, match=reason):
            source.reader("train")


def test_a_damaged_page_costs_its_row_group_and_says_so(tmp_path):
    rows = [{"text": f"Text number {i}. " * 50} for i in range(6)]
    path = tmp_path / "docs/x.parquet"
    write_table(
        path, rows, row_group_size=2, use_dictionary=False, compression="none", write_page_checksum=True
    )
    data = bytearray(path.read_bytes())
    at = pyarrow.parquet.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data[at + 2500] ^= 1  # one bit in a text; the header before it holds copies of the least and the greatest
    path.write_bytes(data)
    cache, rejects = cached(
        tmp_path, ParquetSource("docs", {"train": "x.parquet"}), pretraining.text_only, splits=("train",)
    )
    assert len(cache) + len(rejects) == 6 and {reason for reason, _ in rejects.values()} == {"corrupt_row"}
    assert set(rejects) <= {"x.parquet: row 2", "x.parquet: row 3"} and rejects


def test_espnet_datasets_are_a_source(tmp_path):
    root = tmp_path / "egs"
    root.mkdir()
    audio.write(root / "a.flac", sound(7))
    (root / "wav.scp").write_text("u1 a.flac\nu2 gone.flac\nu3 sox x.wav |\n")
    (root / "text").write_text("u1 A dog.\nu2 A cat.\nu3 A cow.\nu4 Alone.\n")
    entries = [("audio1", "wav.scp", "kaldi_audio"), ("text1", "text", "text")]
    listed = [dict(zip(("name", "path", "reader"), e, strict=True)) for e in entries]
    (root / "und.json").write_text(json.dumps({"data_entry": listed, "samples": ["u1", "u2", "u3", "u4"]}))
    turns = [["user", "audio", "a.flac"], ["assistant", "text", "Listen."]]
    (root / "talk.jsonl").write_text(json.dumps({"example_id": "t1", "messages": turns}) + "\n")
    talk = {
        "data_entry": [{"name": "dialogue", "path": "talk.jsonl", "reader": "dialogue"}],
        "samples": ["t1"],
    }
    (root / "talk.json").write_text(json.dumps(talk))
    source = EspnetSource("egs", {"train": ("audio_to_text:und:und.json", "dialogue:talk:talk.json")})
    cache, rejects = cached(tmp_path, source, splits=("train",))
    assert said(cache) == {"und.u1": "A dog."}
    found = {origin.rpartition(" ")[2]: reason for origin, (reason, _) in rejects.items()}
    assert found == {"u2": "missing_audio", "u3": "piped_audio", "u4": "missing_entry"}
    cache, _ = cached(tmp_path, source, sft.understanding, splits=("train",))
    assert said(cache) == {"talk.t1": "Listen."}
    np.testing.assert_array_equal(cache.read(0).messages()[0].content, sound(7))


def test_a_mixture_of_sources_serves(tar):
    write_table(tar / "docs/x.parquet", [{"text": "Only text."}, {"text": "More text."}])
    mixtures.add_task(
        "tar_of_both", TarSource("tars", {"train": "train-0.tar"}), pretraining.audio_to_caption
    )
    mixtures.add_task("text_of_both", ParquetSource("docs", {"train": "x.parquet"}), pretraining.text_only)
    seqio.MixtureRegistry.add("both", [("tar_of_both", 1.0), ("text_of_both", 1.0)])
    lock = cache_mixture(config(tar, mixtures=("both",), rates={}, splits=("train",)))
    batch = Loader(lock, BatchShape(2, 256, 8), LAYOUT).batch(0)
    assert set(np.unique(batch.segment_ids)) >= {0, 1, 2} and (batch.chunk_frames > 0).any()
