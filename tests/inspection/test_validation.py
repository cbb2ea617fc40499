"""The check before launch: each limit is found when violated, all at once, and a sound mixture passes."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from synthetic_cache import dialogue_of, example, write_mixture, write_mixture_of

from bagpiper_jax import audio, configuration, files
from bagpiper_jax.batch import BatchShape
from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.data.limits import MixtureLimits
from bagpiper_jax.data.lock import read_lock, write_lock
from bagpiper_jax.inspection.served import ServedMixture
from bagpiper_jax.inspection.staleness import module_file, staleness
from bagpiper_jax.inspection.survey import sample_rows, survey
from bagpiper_jax.inspection.validation import validate
from bagpiper_jax.jobs import inspect_data
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.training.config import TrainConfig

SHAPE = BatchShape(rows=2, slots=1024, chunks=48)
SHORT_ROWS = MixtureLimits(min_packing=0.9)
DIRECTIONS = {"caption_to_audio": (300, 1.0), "audio_to_caption": (300, 2.0), "text_only": (200, 1.0)}


@pytest.fixture(scope="module")
def lock(tmp_path_factory):
    return write_mixture(tmp_path_factory.mktemp("sound"), DIRECTIONS)


def served(lock, **changes) -> ServedMixture:
    return ServedMixture(**{"lock": str(lock), "shape": SHAPE, "steps": 20, **changes})


def rules(validation) -> list[tuple[str, str]]:
    return [(violation.rule, violation.place) for violation in validation.violations]


def test_a_sound_mixture_is_valid_and_measured(lock):
    found = validate(served(lock), SHORT_ROWS)
    assert found.violations == () and len(found.rows) == 8
    tasks = {task.name: task for task in found.survey.tasks}
    assert [task.records for task in found.survey.tasks] == [300, 300, 200]
    for name, (_, rate) in DIRECTIONS.items():
        assert tasks[name].rate == rate / 4 and abs(tasks[name].examples - rate / 4) < 0.05
    assert abs(sum(task.tokens for task in tasks.values()) - 1) < 1e-9
    # the whole run was small enough to be sampled whole: count it
    loader = served(lock).open()
    planned = [loader.plan.row(row) for row in range(SHAPE.rows * 20)]
    seen = np.bincount(np.concatenate([p.task for p in planned]), minlength=3)
    for task, count in zip(found.survey.tasks, seen, strict=True):
        assert task.epochs == pytest.approx(count / task.records, rel=0.05)
        assert task.examples == pytest.approx(count / seen.sum(), rel=0.05)
    assert found.survey.packing == pytest.approx(
        np.mean([p.length.sum() for p in planned]) / SHAPE.slots, abs=0.02
    )


def test_decoded_rows_hold_what_training_is_given(lock):
    loader = served(lock).open()
    found = validate(served(lock)).rows[0]
    np.testing.assert_array_equal(found.batch.tokens[0], loader.batch(0).tokens[0])
    texts = [m.text for e in found.examples for m in e.messages if m.text is not None]
    assert texts and all(text.isprintable() for text in texts)
    heard = [e for e in found.examples if e.task == "audio_to_caption"]
    assert heard and all(
        len(mel) == len(m.samples) // 160
        for e in heard
        for mel, m in zip(e.mels, [m for m in e.messages if m.samples is not None], strict=True)
    )


def test_every_limit_is_named_with_its_remedy(lock):
    limits = MixtureLimits(max_epochs=0.1, max_over_long=0.0, min_packing=1.0)
    found = validate(served(lock, shape=dataclasses.replace(SHAPE, slots=60)), limits)
    assert {rule for rule, _ in rules(found)} == {"max_epochs", "max_over_long", "min_packing"}
    assert ("max_over_long", "caption_to_audio") in rules(found)
    assert all(violation.remedy and "the limit is" in violation.found for violation in found.violations)


@pytest.mark.parametrize(
    "flags, packing",
    [
        ("--run=gin/runs/pretrain_8b_v6e_256.gin", 0.995),
        ("--run=gin/runs/nano_sft.gin", 0.9),
        ("--lock=some.lock.json", 0.995),
        (
            "--lock=l.json --gin.InspectConfig.limits=@MixtureLimits() --gin.MixtureLimits.min_packing=0.8",
            0.8,
        ),
    ],
)
def test_rows_must_be_full_unless_a_run_says_otherwise(flags, packing):
    config = configuration.load(inspect_data.InspectConfig, inspect_data.expand(flags.split()))
    assert config.held_to().min_packing == packing


def test_packing_that_chunks_bound_says_so(lock):
    found = validate(served(lock, shape=dataclasses.replace(SHAPE, chunks=4)))
    (packing,) = [v for v in found.violations if v.rule == "min_packing"]
    assert "BatchShape.chunks" in packing.remedy


def test_rejected_clips_are_counted_by_reason(tmp_path):
    rng = np.random.default_rng(0)
    good = [example(dialogue_of("text_only", rng), f"good-{i}") for i in range(90)]
    blank = [{**good[0], "text": np.full(500, 999, np.int32), "id": b"bad"} for _ in range(10)]
    lock = write_mixture_of(tmp_path, [*good, *blank])
    found = validate(served(lock, shape=BatchShape(1, 256, 0), steps=4))
    (violation,) = [v for v in found.violations if v.rule == "max_rejected"]
    assert "10.0% of 100 clips were rejected (10 text_out_of_range)" in violation.found


def test_faults_of_several_caches_come_together(lock, tmp_path):
    root = tmp_path / "several"
    lock = write_mixture(root, DIRECTIONS)
    (root / "text_only/train/COMPLETE").unlink()
    shard = next((root / "caption_to_audio/train").glob("core*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    found = validate(served(lock, shape=dataclasses.replace(SHAPE, slots=8)))
    assert rules(found) == [
        ("cache", "caption_to_audio"),
        ("cache", "text_only"),
        ("max_over_long", "audio_to_caption"),
    ]
    assert found.survey is None


def test_a_damaged_record_is_named(tmp_path):
    rng = np.random.default_rng(0)
    lock = write_mixture_of(tmp_path, [example(dialogue_of("text_only", rng), f"c{i}") for i in range(8)])
    cache = TaskCache(tmp_path / "task/train")
    (shard,) = cache.directory.glob("core*")
    data = bytearray(shard.read_bytes())
    place = data.find(b"c7")
    assert place > 0
    data[place] ^= 1
    shard.write_bytes(bytes(data))
    # eight rows of some five examples: all are decoded, and hold each of the eight records several times
    found = validate(served(lock, shape=BatchShape(1, 256, 0), steps=8))
    assert ("damaged", "task record 7") in rules(found)
    assert "core.array_record" in [v for v in found.violations if v.rule == "damaged"][0].found


def test_another_tokenizer_and_codec_are_both_named_and_the_rest_is_checked(lock, tmp_path):
    body = read_lock(lock)
    write_lock(lock.parent / "other.lock.json", dataclasses.replace(body, tokenizer_fingerprint="bpe"))
    found = validate(
        served(lock.parent / "other.lock.json", codec=str(tmp_path / "none.safetensors")), SHORT_ROWS
    )
    assert rules(found) == [("cache", "synthetic")] * 2 and found.survey is not None


def test_no_lock_is_one_violation(tmp_path):
    found = validate(served(tmp_path / "none.lock.json"))
    assert [v.rule for v in found.violations] == ["cache"] and "cache_tasks" in found.violations[0].found


def stale_cache(tmp_path, provenance: dict) -> TaskCache:
    write_mixture_of(tmp_path, [example([("assistant", "text", "a")])])
    cache = TaskCache(tmp_path / "task/train")
    cache.manifest["provenance"] = provenance
    return cache


def test_changed_code_and_inputs_are_stale_others_are_not(tmp_path):
    (tmp_path / "data/one").mkdir(parents=True)
    (tmp_path / "data/one/manifest.jsonl").write_text("changed")
    (tmp_path / "data/one/codes/f00").mkdir(parents=True)
    (tmp_path / "data/one/codes/f00/manifest.json").write_text("{}")
    same = files.sha256(tmp_path / "data/one/codes/f00/manifest.json")
    cache = stale_cache(tmp_path, {
        "code": {"bagpiper_jax.audio": files.sha256(audio.__file__), "bagpiper_jax.text": "0", "no.such": "0"},
        "inputs": {"one/manifest.jsonl": "0", "f00/manifest.json": same, "audio": "0", "two/manifest.jsonl": "0"},
        "versions": {"numpy": "0.1", "no-such-library": "1"},
    })  # fmt: skip
    found = staleness(cache, str(tmp_path / "data"))
    assert found.changed == ("code bagpiper_jax.text", "input one/manifest.jsonl")
    assert found.unchecked == (
        "code no.such: not on this machine",
        "input two/manifest.jsonl: not on this machine",
    )
    assert found.versions == (f"numpy 0.1 then, {np.__version__} now",)


@pytest.mark.parametrize("naming", ["now", "earlier"])
def test_each_corpus_is_compared_with_its_own_codes(tmp_path, naming):
    """All corpora of one codec have a code store of the same name; some have none, and one comes first."""
    for corpus in ("a", "b", "c"):
        (tmp_path / "data" / corpus / "codes/f00").mkdir(parents=True)
        (tmp_path / "data" / corpus / "manifest.jsonl").write_text(corpus)
        (tmp_path / "data" / corpus / "codes/f00/manifest.json").write_text(f"codes of {corpus}")
    for corpus in ("c", "b", "a"):
        names = [f"{corpus}/manifest.jsonl", f"{corpus}/codes/f00/manifest.json"]
        inputs = {name: files.sha256(tmp_path / "data" / name) for name in names}
        if naming == "earlier":
            inputs["f00/manifest.json"] = inputs.pop(names[1])
        cache = stale_cache(tmp_path / corpus, {"code": {"bagpiper_jax.audio": files.sha256(audio.__file__)},
                                                "inputs": inputs})  # fmt: skip
        found = staleness(cache, str(tmp_path / "data"))
        assert not found.changed and not found.unchecked
        (tmp_path / "data" / names[1]).write_text("made anew")
        assert len(staleness(cache, str(tmp_path / "data")).changed) == 1
        (tmp_path / "data" / names[1]).unlink()
        assert len(staleness(cache, str(tmp_path / "data")).unchecked) == 1


def test_a_modules_file_is_found_without_importing_it():
    before = set(sys.modules)
    assert module_file("tasks.pretraining").name == "pretraining.py"
    assert module_file("bagpiper_jax.captions").name == "__init__.py"
    assert module_file("pytest") is not None and module_file("no_such") is None
    assert set(sys.modules) == before


def test_stale_caches_are_refused_unless_allowed(tmp_path):
    rng = np.random.default_rng(0)
    lock = write_mixture_of(tmp_path, [example(dialogue_of("text_only", rng), f"c{i}") for i in range(300)])
    path = tmp_path / "task/train/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["provenance"] = {"code": {"bagpiper_jax.text": "0"}}
    path.write_text(json.dumps(manifest))
    body = read_lock(lock)
    (task,) = body.splits["train"]
    relocked = dataclasses.replace(task, manifest_sha256=files.sha256(path))
    write_lock(lock, dataclasses.replace(body, splits={"train": (relocked,)}))
    mixture = served(lock, shape=BatchShape(1, 512, 0), steps=5)
    assert rules(validate(mixture, SHORT_ROWS)) == [("allow_stale", "task")]
    assert rules(validate(mixture, dataclasses.replace(SHORT_ROWS, allow_stale=True))) == []


def test_the_flag_sets_the_exit_code(lock, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = [f"--lock={lock}", "--validate", "--steps=20", "--gin.InspectConfig.shape=@BatchShape()",
             "--gin.BatchShape.rows=2", "--gin.BatchShape.slots=1024", "--gin.BatchShape.chunks=48",
             "--gin.InspectConfig.limits=@MixtureLimits()", "--gin.MixtureLimits.min_packing=0.9"]  # fmt: skip
    assert inspect_data.main(flags) == 0
    assert "valid: no limit is violated" in capsys.readouterr().out
    assert (
        inspect_data.main([*flags, "--gin.MixtureLimits.max_epochs=0.01"]) == inspect_data.EXIT_VIOLATED == 4
    )
    said = capsys.readouterr().out
    assert "INVALID, 3 violations:" in said and said.count("max_epochs: ") == 3


def test_a_runs_own_settings_are_taken(lock):
    run = TrainConfig("out", str(lock), batch=SHAPE, steps=7, seed=3, cfg_dropout=0.25, tokenizer="byte")
    mixture = ServedMixture.of_training(run)
    assert (mixture.shape, mixture.steps, mixture.seed) == (SHAPE, 7, 3)
    assert mixture.vocabulary == BagpiperConfig().vocabulary
    refused = validate(mixture)  # the release's codec has other codebooks than this cache
    assert rules(refused) == [("cache", "synthetic")] and "Vocabulary" in refused.violations[0].found
    with pytest.raises(ValueError, match="either a lock"):
        inspect_data.InspectConfig(lock=str(lock), train=run)


def test_rows_far_into_a_long_run_are_sampled_without_planning_what_precedes(lock, monkeypatch):
    loader, planned = served(lock, steps=10**7).open(), []
    window = loader.plan.window
    monkeypatch.setattr(loader.plan, "window", lambda number: planned.append(number) or window(number))
    rows = sample_rows(loader, 10**7, windows=3)
    assert rows[-1].near_step > 9 * 10**6 and len({row.window for row in rows}) == 3
    assert len(set(planned)) == 3
    found = survey(loader, 10**7, "train", rows)
    assert found.tasks[0].epochs > 1e4
