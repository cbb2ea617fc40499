"""ESPnet's dataset files become a corpus: every reader, every bad record by its reason, the proportions."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bagpiper_jax import audio
from bagpiper_jax.corpora import espnet
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.espnet import EspnetCorpusConfig, specifiers
from bagpiper_jax.jobs import build_corpus
from bagpiper_jax.manifest import read_manifest


def tone(seconds: float, frequency: float = 440.0) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * 16_000)) / 16_000)


def lines(path: Path, *rows) -> Path:
    """Rows as they stand, or as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    with gzip.open(path, "wt") if path.suffix == ".gz" else open(path, "w") as file:
        file.write(text)
    return path


def dataset(root: Path, name: str, entries: dict, samples: list) -> str:
    """Writes a dataset JSON; `entries` is name → (path, reader)."""
    listed = [{"name": n, "path": str(path), "reader": reader} for n, (path, reader) in entries.items()]
    lines(root / f"{name}.json", {"data_entry": listed, "samples": samples})
    return f"{name}.json"


@pytest.fixture
def root(tmp_path):
    """A recipe folder: two clips with captions, a long recording, dialogues and documents."""
    for name, seconds in (("a", 1.0), ("b", 0.8), ("long", 40.0)):
        soundfile.write(tmp_path / f"{name}.wav", tone(seconds), 16_000)
    lines(tmp_path / "wav.scp", "utt/1 a.wav", "utt2 b.wav")
    lines(tmp_path / "captions", "utt/1 A steady tone.", "utt2 A shorter tone.")
    dataset(
        tmp_path,
        "pairs",
        {"audio1": ("wav.scp", "kaldi_audio"), "text1": ("captions", "text")},
        ["utt/1", "utt2"],
    )
    return tmp_path


def build(root: Path, *train: str, **settings):
    """Clips by id, rejects, and the folder."""
    given = {"workers": 1, "max_reject_frac": 0.9, "root": str(root), **settings}
    directory = espnet.build(EspnetCorpusConfig(train, str(root / "out" / "espnet"), **given))
    rejects = [json.loads(line) for line in (directory / "rejects.jsonl").read_text().splitlines()]
    return {clip.id: clip for clip in read_manifest(directory)}, rejects, directory


def reasons(rejects: list[dict]) -> dict[str, str]:
    assert all(r["file"] and r["detail"] and r["remedy"] for r in rejects)
    return {r["id"]: r["reason"] for r in rejects}


def test_audio_tasks_become_clips_of_their_direction(root):
    clips, rejects, directory = build(
        root, "audio_to_text:pairs:pairs.json:3", "text_to_audio:pairs:pairs.json", validation=()
    )
    assert not rejects and len(clips) == 2
    clip = clips["pairs.utt2"]
    assert (clip.caption, clip.source, clip.split) == ("A shorter tone.", "pairs", "train")
    assert clip.directions == ["audio_to_caption", "caption_to_audio"]
    assert len(audio.read(directory / clip.audio)) == 0.8 * 16_000
    other = next(clip for clip in clips.values() if clip is not clips["pairs.utt2"])
    assert other.id.startswith("pairs.utt-1-") and other.caption == "A steady tone."
    gin = (directory / "mixture.gin").read_text()
    assert "{'espnet_caption_to_audio': 2.0, 'espnet_audio_to_caption': 6.0, 'espnet_text_only': 0.0}" in gin


def test_lhotse_recordings_and_parts_of_recordings(root):
    recordings = [
        {
            "id": "a",
            "sampling_rate": 16000,
            "sources": [{"type": "file", "channels": [0], "source": "a.wav"}],
        },
        {"id": "url", "sources": [{"type": "url", "source": "https://example.org/x.wav"}]},
        {"id": "fast", "transforms": [{"name": "Speed"}], "sources": recording("a.wav")},
    ]
    lines(root / "rec" / "recordings.jsonl.gz", *recordings)
    cuts = [
        {"id": "cut", "start": 10.0, "duration": 2.5, "channel": 0, "recording": {"sources": recording("long.wav")}},
        {"id": "past", "start": 39.0, "duration": 5.0, "recording": {"sources": recording("long.wav")}},
        {"id": "right", "start": 0, "duration": 1, "channel": 1, "recording": {"sources": recording("a.wav")}},
        {"id": "mix", "tracks": []},
    ]  # fmt: skip
    lines(root / "cut" / "cuts.jsonl.gz", *cuts)
    ids = ["a", "url", "fast", "cut", "past", "right", "mix"]
    text = lines(root / "text.jsonl", *({"id": i, "text": f"Caption of {i}."} for i in ids))
    for name, wanted in (("rec", ids[:3]), ("cut", ids[3:])):
        dataset(root, name, {"audio1": (name, "lhotse_audio"), "text1": (text, "text")}, wanted)
    clips, rejects, directory = build(root, "audio_to_text:rec:rec.json", "text_to_audio:cut:cut.json")
    assert set(clips) == {"rec.a", "cut.cut"}
    wave = audio.read(directory / clips["cut.cut"].audio)
    np.testing.assert_allclose(wave, tone(40.0)[160_000:200_000], atol=1e-4)
    found = reasons(rejects)
    assert found == {
        "url": "unsupported_audio", "fast": "unsupported_audio", "right": "unsupported_audio",
        "mix": "unsupported_audio", "cut.past": "part_out_of_range",
    }  # fmt: skip


def recording(path: str) -> list:
    return [{"type": "file", "channels": [0], "source": path}]


def test_dialogues_keep_their_messages_and_answers_become_clips(root):
    rows = [
        {"example_id": "ask", "messages": [["user", "audio", "a.wav"], ["assistant", "text", "A tone!"]]},
        {
            "example_id": "make",
            "messages": [
                ["system", "text", "Be kind."], ["user", "text", "Two tones."], ["assistant", "audio", "a.wav"],
                ["assistant", "audio", "b.wav"],
            ],
            "task": "gen",
        },
        {"example_id": "see", "messages": [["user", "image", "x.png"], ["assistant", "text", "No."]]},
        {"example_id": "role", "messages": [["tool", "text", "x"]]},
        {"example_id": "gone", "messages": [["user", "audio", "no.wav"], ["assistant", "text", "?"]]},
        {"example_id": "bare"},
        "{torn",
    ]  # fmt: skip
    lines(root / "talk.jsonl", *rows)
    ids = ["ask", "make", "see", "role", "gone", "bare", "nowhere"]
    dataset(root, "talk", {"dialogue": ("talk.jsonl", "dialogue")}, ids)
    clips, rejects, directory = build(root, "dialogue:talk:talk.json")
    assert clips["talk.ask"].dialogue[1] == ["assistant", "text", "A tone!"]
    assert (directory / clips["talk.ask"].dialogue[0][2]).is_file()
    made = clips["talk.make"]
    first, second = (content for _, kind, content in made.dialogue if kind == "audio")
    assert first == made.id and len(audio.read(directory / made.audio)) == 16_000
    assert len(audio.read(directory / clips[second].audio)) == 0.8 * 16_000
    assert clips[second].caption is clips[second].dialogue is None and len(clips) == 3
    assert sorted((r["id"], r["reason"], r["line"]) for r in rejects) == [
        ("", "bad_json", 7), ("bare", "bad_line", 6), ("nowhere", "missing_entry", 0),
        ("role", "unknown_role", 4), ("see", "bad_dialogue", 3), ("talk.gone", "missing_audio", 5),
    ]  # fmt: skip
    gin = (directory / "mixture.gin").read_text()
    assert "('espnet_sft',)" in gin and "'espnet_sft_generation': 1.0, 'espnet_sft_understanding': 1.0" in gin


def test_bad_samples_are_counted_by_reason(root):
    lines(
        root / "wav.scp",
        "ok a.wav",
        "pipe sox a.wav - |",
        "gone no.wav",
        "dup a.wav",
        "dup b.wav",
        "mute a.wav",
    )
    lines(root / "captions", "ok Fine.", "pipe x", "gone x", "dup Twice.", "mute", "other Not asked for.")
    ids = ["ok", "pipe", "gone", "dup", "mute", "absent"]
    entries = {"audio1": ("wav.scp", "kaldi_audio"), "text1": ("captions", "text")}
    dataset(root, "bad", entries, ids)
    lines(root / "stats" / "stats_audio_to_text_bad.jsonl", *({i: 30} for i in ids if i != "dup"))
    clips, rejects, directory = build(root, "audio_to_text:bad:bad.json", stats=str(root / "stats"))
    assert set(clips) == {"bad.ok"}
    assert sorted(r["reason"] for r in rejects if r["id"] == "dup") == ["duplicate_id", "no_length"]
    assert reasons([r for r in rejects if r["id"] != "dup"]) == {
        "pipe": "piped_audio", "bad.gone": "missing_audio", "mute": "missing_entry", "": "bad_line",
        "absent": "missing_entry",
    }  # fmt: skip
    summary = json.loads((directory / "corpus.json").read_text())
    assert summary["rejects"]["missing_entry"] == 2
    assert summary["specifiers"][0]["slots"] == 150 and summary["specifiers"][0]["samples"] == 6


def test_documents_registries_and_splits(root):
    lines(root / "docs.jsonl", {"id": "d1", "text": "One!"}, {"id": "d2", "text": "Two."})
    dataset(root, "docs", {"text1": ("docs.jsonl", "text")}, ["d1", "d2"])
    registry = root / "registry.yaml"
    registry.write_text("docs:\n  path: docs.json\npairs: {path: pairs.json}\n")
    clips, rejects, _ = build(
        root, "text_only:docs:0.5", validation=("audio_to_text:pairs",), registries=(str(registry),)
    )
    assert not rejects and clips["docs.d1"].text == "One!" and clips["docs.d1"].domain == "text"
    assert clips["docs.d1"].directions == ["text_only"]
    assert {c.split for c in clips.values() if c.audio} == {"validation"}


def test_one_sample_in_two_splits_is_rejected(root):
    task = "audio_to_text:pairs:pairs.json"
    clips, rejects, _ = build(root, task, test=(task,))
    assert len(clips) == 2 and {r["reason"] for r in rejects} == {"duplicate_id"}


def test_every_task_on_one_dataset_gives_one_clip(root):
    for order in (1, -1):
        tasks = ["text_only:pairs:pairs.json", "audio_to_text:pairs:pairs.json"][::order]
        clips, rejects, _ = build(root, *tasks)
        clip = clips["pairs.utt2"]
        assert not rejects and clip.audio and clip.caption == "A shorter tone." and clip.text is None
        assert sorted(clip.directions) == ["audio_to_caption", "text_only"]


def test_a_sample_lost_in_one_dataset_does_not_hide_its_loss_in_another(root):
    lines(root / "pipes.scp", "utt2 cat b.wav |")
    dataset(root, "pipes", {"audio1": ("pipes.scp", "kaldi_audio"), "text1": ("captions", "text")}, ["utt2"])
    lines(root / "short.scp", "utt/1 a.wav")
    entries = {"audio1": ("short.scp", "kaldi_audio"), "text1": ("captions", "text")}
    dataset(root, "short", entries, ["utt/1", "utt/1", "utt2"])
    clips, rejects, _ = build(root, "audio_to_text:pipes:pipes.json", "audio_to_text:short:short.json")
    assert sorted((r["id"], r["reason"]) for r in rejects) == [
        ("utt/1", "duplicate_id"), ("utt2", "missing_entry"), ("utt2", "piped_audio"),
    ]  # fmt: skip
    assert len(clips) == 1


def test_unequal_factors_are_told(root, caplog):
    dataset(root, "more", {"audio1": ("wav.scp", "kaldi_audio"), "text1": ("captions", "text")}, ["utt2"])
    _, _, directory = build(root, "audio_to_text:pairs:pairs.json:1", "audio_to_text:more:more.json:3.15")
    assert "the factors [1.0, 3.15] become their mean" in caplog.text
    assert "'espnet_audio_to_caption': 5.15" in (directory / "mixture.gin").read_text()


FAULTS = {
    "asr:pairs:pairs.json": "task 'asr' is none of text_to_audio",
    "text_only:nobody": "no registry has 'nobody'",
    "audio_to_text:pairs:pairs.json:-1": "is not task:name:dataset.json",
    "audio_to_text:pairs:none.json": "none.json is no dataset JSON",
    "dialogue:pairs:pairs.json": "task dialogue needs the entries dialogue",
    "text_only:parquet:parquet.json": "x.parquet is no Parquet table",
    "text_only:strange:strange.json": "reader 'text2' is none of text, dialogue, kaldi_audio, lhotse_audio",
    "text_only:absent:absent.json": "entry text1: .*/absent.txt does not exist",
}


@pytest.mark.parametrize("specifier", FAULTS)
def test_files_that_cannot_be_used_are_explained(root, specifier):
    for name, source in (
        ("parquet", ("x.parquet", "omniio_text")),
        ("strange", ("captions", "text2")),
        ("absent", ("absent.txt", "text")),
    ):
        dataset(root, name, {"text1": source}, ["utt2"])
    with pytest.raises(CorpusError, match=FAULTS[specifier]):
        build(root, specifier)


def test_damaged_lengths_registries_and_manifests_are_explained(root):
    lines(root / "stats" / "stats_audio_to_text_pairs.jsonl", {"utt2": 5}, {"utt2": 5, "x": 6})
    with pytest.raises(CorpusError, match=r"stats_audio_to_text_pairs.jsonl:2: not one"):
        build(root, "audio_to_text:pairs:pairs.json", stats=str(root / "stats"))
    with pytest.raises(CorpusError, match="give the folder of the length files"):
        build(root, "text_to_audio:pairs:pairs.json", stats=str(root / "stats"))
    evil = root / "evil.yaml"
    evil.write_text("x: !!python/object/apply:os.system ['touch pwned']\n")
    with pytest.raises(CorpusError, match="evil.yaml is no readable YAML"):
        specifiers.read_registries([evil])
    (root / "cut").mkdir()
    (root / "cut" / "cuts.jsonl.gz").write_bytes(gzip.compress(b'{"id": "a"}\n' * 1000)[:-20])
    dataset(root, "cut", {"audio1": ("cut", "lhotse_audio"), "text1": ("captions", "text")}, ["utt2"])
    with pytest.raises(CorpusError, match="cuts.jsonl.gz is damaged"):
        build(root, "audio_to_text:cut:cut.json")


def test_the_job_builds_it_and_converts_yamls(root, monkeypatch):
    monkeypatch.chdir(root)
    (root / "sample.yaml").write_text("audio: {topk: 7}\n")
    build_corpus.main([
        "--gin_file=gin/corpora/espnet.gin", "--gin.EspnetCorpusConfig.workers=1",
        "--gin.EspnetCorpusConfig.train=('audio_to_text:pairs:pairs.json',)",
        "--gin.EspnetCorpusConfig.inference=sample.yaml",
    ])  # fmt: skip
    assert len(list(read_manifest(root / "corpora" / "espnet"))) == 2
    assert "AudioSampling.top_k = 7" in (root / "corpora" / "espnet" / "generate.gin").read_text()


@pytest.mark.slow
def test_the_corpus_passes_through_the_whole_data_path(root, tmp_path):
    """ESPnet's files → clips → codes → cache: every sample is cached in its direction and length."""
    from bagpiper_jax import configuration
    from bagpiper_jax.caching.config import CacheConfig
    from bagpiper_jax.caching.export import cache_mixtures
    from bagpiper_jax.caching.tokenization import TokenizeConfig, tokenize
    from bagpiper_jax.data.cache import TaskCache
    from bagpiper_jax.data.lock import read_lock
    from bagpiper_jax.dialogue import rendered_length
    from bagpiper_jax.models.codecs.xcodec.storage import NANO

    messages = [
        ["user", "text", "Two tones."],
        ["assistant", "audio", "a.wav"],
        ["assistant", "audio", "b.wav"],
    ]
    lines(root / "talk.jsonl", {"example_id": "make", "messages": messages})
    dataset(root, "talk", {"dialogue": ("talk.jsonl", "dialogue")}, ["make"])
    _, rejects, directory = build(root, "text_to_audio:pairs:pairs.json", "dialogue:talk:talk.json")
    assert not rejects
    tokenize(TokenizeConfig(str(directory)))
    cached = configuration.load(CacheConfig, [
        f"--gin_file={directory / 'mixture.gin'}", f"--gin.CacheConfig.codec={str(NANO)!r}",
        f"--gin.CacheConfig.cache_dir={str(tmp_path / 'cache')!r}", "--gin.CacheConfig.splits=('train',)",
    ])  # fmt: skip
    found = {}
    for lock in cache_mixtures(cached):
        for task in read_lock(lock).tasks("train"):
            cache = TaskCache(lock.parent / task.path)
            examples = [cache.read(i).messages() for i in range(len(cache))]
            found[task.task] = sorted(rendered_length(m) for m in examples)
    # 1 + Σ (3 + content), audio as floor(samples / 640) + 7 rows of the nano codec (docs/reference.md, Message layout
    # and Delay pattern)
    assert found == {
        "espnet_caption_to_audio": [1 + (3 + 15) + (3 + 20 + 7), 1 + (3 + 14) + (3 + 25 + 7)],
        "espnet_sft_generation": [1 + (3 + 10) + (3 + 25 + 7) + (3 + 20 + 7)],
    }
