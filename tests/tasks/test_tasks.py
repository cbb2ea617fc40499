"""The real SeqIO tasks over a small corpus full of faults, through the cache job, to text again."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile
from task_helpers import LAYOUT, cache_mixture, caches, clip, config

from bagpiper_jax import dialogue
from bagpiper_jax.batch import BatchShape
from bagpiper_jax.caching.shards import ExportError
from bagpiper_jax.data.loader import Loader, LoaderConfig
from bagpiper_jax.data.lock import read_lock
from bagpiper_jax.jobs import inspect_data
from bagpiper_jax.manifest import Clip, write_manifest
from bagpiper_jax.text import ByteTokenizer

FAULTY = {  # clip id → the reason it is rejected under
    "gone": "audio_missing",
    "hollow": "audio_empty",
    "nan": "audio_not_finite",
    "endless": "audio_too_long",
    "noise": "audio_corrupt",
    "blank": "empty_caption",
    "epic": "too_long",
}


def write_corpus(root):
    directory = root / "user"
    (directory / "audio").mkdir(parents=True)
    rng = np.random.default_rng(0)
    clips = [clip(f"good{i}", "train" if i < 8 else "validation") for i in range(10)]
    clips += [clip(name) for name in FAULTY]
    clips[-2] = clip("blank", caption="  \n ")
    clips[-1] = clip("epic", caption="la " * 3000)
    clips.append(clip("page", audio=None, caption=None, text="Only text.", domain="text"))
    for c in clips:
        if c.audio and c.id not in ("gone", "hollow", "nan", "endless", "noise"):
            samples = 0.1 * rng.normal(size=int(rng.integers(4000, 20000)))
            soundfile.write(directory / c.audio, samples, 16000, subtype="PCM_16")
    (directory / "audio/hollow.wav").touch()
    (directory / "audio/noise.wav").write_bytes(b"RIFF nothing of the kind")
    soundfile.write(directory / "audio/nan.wav", np.full(5000, np.nan), 16000, subtype="FLOAT")
    soundfile.write(directory / "audio/endless.wav", np.zeros(1800 * 1000), 1000, subtype="PCM_U8")
    write_manifest(directory, clips)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_corpus(root)
    return root


@pytest.fixture(scope="module")
def lock_path(root):
    return cache_mixture(config(root))


def test_every_clip_is_accounted_for(lock_path):
    made = caches(lock_path)
    counts = made["user_audio_to_caption"].manifest["counts"]
    assert counts == {"ok": 8, "skipped no_audio": 1} | {f"rejected {r}": 1 for r in FAULTY.values()}
    rejects = {r["id"]: r for r in made["user_audio_to_caption"].rejects()}
    assert {name: r["reason"] for name, r in rejects.items()} == FAULTY
    for name, remedy in (
        ("gone", "check the path"),
        ("hollow", "remove the record"),
        ("nan", "remove NaN"),
        ("endless", "cut the recording"),
        ("noise", "re-encode the file"),
    ):
        assert f"audio/{name}.wav" in rejects[name]["detail"] and remedy in rejects[name]["detail"]
    assert "blank; write one or remove the clip" in rejects["blank"]["detail"]
    assert "raise CacheConfig.max_slots" in rejects["epic"]["detail"]
    text = made["user_text_only"].manifest
    assert text["inputs"] == 16 and sum(text["counts"].values()) == 16
    assert text["counts"]["ok"] == 14 and text["counts"]["rejected empty_text"] == 1


def test_records_read_back_to_captions_and_audio(root, lock_path):
    cache = caches(lock_path)["user_audio_to_caption"]
    for index in range(len(cache)):
        record = cache.read(index)
        heard, said = record.messages()
        assert ByteTokenizer().decode(said.content) == f"This is {record.id}!"
        original, _ = soundfile.read(root / "user/audio" / f"{record.id}.wav", dtype="float32")
        np.testing.assert_array_equal(heard.content, original)
        rendered = dialogue.render([heard, said], LAYOUT)
        assert len(rendered) == cache.index["length"][index]
    assert {cache.read(i).id for i in range(len(cache))} == {f"good{i}" for i in range(8)}


def test_the_lock_serves(lock_path):
    loader = Loader(
        lock_path, BatchShape(2, 256, 8), LAYOUT, LoaderConfig(tokenizer="byte", max_excluded=0.1)
    )
    batch = loader.batch(0)
    captions = {
        ByteTokenizer().decode(content)
        for row in batch.tokens
        for role, modality, content in dialogue.parse(row, LAYOUT)
        if modality == "text"
    }
    assert captions <= {f"This is {n}!" for n in [f"good{i}" for i in range(8)] + [*FAULTY]} | {"Only text."}
    validation = Loader(
        lock_path, BatchShape(2, 256, 8), LAYOUT, LoaderConfig(split="validation", finite=True)
    )
    assert len(validation.plan.tasks) == 2 and validation.num_steps == 1


def test_caching_again_finds_everything_done(root, lock_path):
    before = {p: p.stat().st_mtime_ns for p in (root / "cache").rglob("*") if p.is_file()}
    assert cache_mixture(config(root)) == lock_path
    after = {p: p.stat().st_mtime_ns for p in (root / "cache").rglob("*") if p.is_file()}
    before.pop(lock_path), after.pop(lock_path)
    assert after == before


def test_another_caption_tokenizer_or_limit_makes_another_cache(root, lock_path, tmp_path):
    from bagpiper_jax.text import learn_bpe

    learn_bpe(["This is good"], 260, tmp_path / "tokenizer.json")
    directories = {caches(lock_path)["user_text_only"].directory}
    for change in ({"tokenizer": str(tmp_path)}, {"max_slots": 4000}, {"seed": 1}):
        changed = cache_mixture(config(root, mixtures=("user_text_only",), rates={}, **change))
        directories.add(caches(changed)["user_text_only"].directory)
    assert len(directories) == 4


def test_seqio_serves_the_same_examples(root, lock_path):
    """The task as SeqIO gives it, faulty clips filtered, equals the cache as a multiset."""
    import seqio

    from tasks import settings

    settings.configure(dataclasses.replace(settings.current(), report_rejects=False))
    task = seqio.get_mixture_or_task("user_audio_to_caption")
    live = task.get_dataset(sequence_length=None, split="train", use_cached=False, shuffle=True, seed=1)
    found = {e["id"]: e for e in live.as_numpy_iterator()}
    cache = caches(lock_path)["user_audio_to_caption"]
    assert set(found) == {cache.read(i).id.encode() for i in range(len(cache))} | {b"epic"}  # no limit there
    for index in range(len(cache)):
        record = cache.read(index)
        example = found[record.id.encode()]
        np.testing.assert_array_equal(example["text"], record.text)
        np.testing.assert_array_equal(example["msg_len"], record.length)
        assert example["audio"] == record.audio


def test_mixtures_are_seqio_mixtures(root):
    import seqio

    from tasks import settings

    settings.configure(settings.Settings(data_root=str(root)))
    mixture = seqio.get_mixture_or_task("user_pretraining")
    assert mixture.num_input_examples("train") == 3 * 16
    assert set(mixture.output_features) == {
        "msg_role", "msg_modality", "msg_start", "msg_len", "msg_weight", "msg_variant", "text", "codes", "audio",
    }  # fmt: skip
    for corpus in ("embedded", "debian", "user"):
        assert {t.name for t in seqio.get_mixture_or_task(f"{corpus}_sft").tasks} == {
            f"{corpus}_sft_understanding",
            f"{corpus}_sft_generation",
        }


def test_wrong_names_suggest_and_empty_things_are_named(root, tmp_path):
    with pytest.raises(
        ExportError, match="unknown mixture or task 'user_pretrainig'; did you mean user_pretr"
    ):
        cache_mixture(config(root, mixtures=("user_pretrainig",)))
    with pytest.raises(ExportError, match="no split 'trian'; it has: train, validation, test"):
        cache_mixture(config(root, splits=("trian",)))
    none = {f"user_{p}": 0.0 for p in ("caption_to_audio", "audio_to_caption", "text_only")}
    with pytest.raises(ExportError, match="mixture user_pretraining is empty"):
        cache_mixture(config(root, rates=none))
    with pytest.raises(ExportError, match="rates for .'user_txt'.*not in user_pretraining"):
        cache_mixture(config(root, rates={"user_txt": 1.0}))
    with pytest.raises(ExportError, match=r"clips rejected .*rejects.jsonl"):
        cache_mixture(config(root, max_reject_frac=0.1, cache_dir=str(tmp_path)))
    write_manifest(tmp_path / "user", [Clip("c", "validation", "text", text="hm")])
    with pytest.raises(ExportError, match="user_text_only has no examples in split train"):
        cache_mixture(config(tmp_path, mixtures=("user_text_only",), rates={}, cache_dir=str(tmp_path / "c")))


def test_tasks_without_an_example_are_left_out_if_asked(tmp_path):
    write_manifest(tmp_path / "user", [Clip("c", "train", "text", text="hm")])
    settings = {"rates": {}, "cache_dir": str(tmp_path / "c"), "leave_out_empty": True, "splits": ("train",)}
    lock = cache_mixture(config(tmp_path, **settings))
    assert [task.task for task in read_lock(lock).tasks("train")] == ["user_text_only"]
    with pytest.raises(ExportError, match="no task of mixture user_tuning has an example in split train"):
        cache_mixture(config(tmp_path, mixtures=("user_tuning",), **settings))


def test_inspecting_shows_examples_rows_rejects_and_shares(lock_path):
    shape = BatchShape(2, 256, 8)

    def show(**fields) -> str:
        return inspect_data.inspect(
            inspect_data.InspectConfig(lock=str(lock_path), shape=shape, **fields)
        ).said

    summary = show(contents=True)
    assert "user_audio_to_caption" in summary and "packing: " in summary and "of slots" in summary
    assert "left out, longer than a row" not in summary
    example = show(task="user_audio_to_caption", index=0)
    assert "assistant text: This is good0!" in example and "samples" in example
    row = show(step=5, row=1)
    assert row.startswith("step 5 row 1: ") and "assistant text: " in row
    assert "gone: rejected audio_missing" in show(rejects=2)


def test_manifest_tells_where_a_cache_came_from(lock_path):
    manifest = caches(lock_path)["user_audio_to_caption"].manifest
    made_from = manifest["provenance"]
    assert {"tasks.preprocessors", "tasks.pretraining", "bagpiper_jax.audio", "bagpiper_jax.text"} <= set(
        made_from["code"]
    )
    assert "numpy" not in made_from["code"] and set(made_from["versions"]) >= {"numpy", "seqio", "tensorflow"}
    assert list(made_from["inputs"]) == ["audio", "user/manifest.jsonl"]
    assert made_from["tokenizer"] == "byte"
    assert "pretraining.audio_to_caption" in json.dumps(made_from["preprocessors"])
    for shard in manifest["shards"]:
        assert set(shard["files"]) == {"core", "audio"} and len(shard["files"]["core"]["sha256"]) == 64
