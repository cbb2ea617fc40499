"""Every registered task gives the same through SeqIO's own pipeline and through cache, plan and Grain, bit for bit."""

import dataclasses
import json
import shutil

import pytest
import seqio
from task_helpers import LAYOUT, cache_mixture, caches, config, write_codes

from bagpiper_jax.batch import BatchShape
from bagpiper_jax.caching import agreement
from bagpiper_jax.corpora.embedded.build import EmbeddedCorpusConfig, build_embedded_corpus
from bagpiper_jax.jobs import inspect_data
from bagpiper_jax.manifest import read_manifest, write_manifest
from tasks.mixtures import AUDIO_DOMAINS, CORPORA

SIZES = dict(train_scenes=12, validation_scenes=3, test_scenes=1, text_documents=10, workers=1)
MIXTURES = ("embedded_pretraining_with_reading", "embedded_pretraining_by_domain", "embedded_sft")
SHAPE = BatchShape(rows=2, slots=4096, chunks=24)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    pytest.importorskip(
        "hibari", reason="hibari-tts is not installed: pip install 'bagpiper_jax[quickstart]'"
    )
    root = tmp_path_factory.mktemp("data")
    build_embedded_corpus(EmbeddedCorpusConfig(directory=str(root / "embedded"), **SIZES))
    write_codes(
        root / "embedded", {c.id: 5 + i for i, c in enumerate(read_manifest(root / "embedded")) if c.audio}
    )
    return root


def caching(root, mixture, **fields):
    """The cache job of a mixture, without tasks of domains that the small corpus lacks."""
    have = {c.domain for c in read_manifest(root / "embedded") if c.split == "train"}
    lacking = set(AUDIO_DOMAINS) - have if mixture.endswith("by_domain") else ()
    rates = {f"embedded_{d}_{way}": 0.0 for d in lacking for way in ("caption_to_audio", "audio_to_caption")}
    return config(
        root, mixtures=(mixture,), rates=rates, codec="nano-codec", **{"shard_inputs": 99, **fields}
    )


def agreed(job, lock, split="train"):
    agreement.configure(job)
    return [agreement.compare(name, split, cache) for name, cache in caches(lock, split).items()]


def test_the_mixtures_here_hold_every_kind_of_task():
    here = {t.name.removeprefix("embedded_") for m in MIXTURES for t in seqio.get_mixture_or_task(m).tasks}
    ours = [n for n in seqio.TaskRegistry.names() if n.startswith(tuple(f"{corpus}_" for corpus in CORPORA))]
    theirs = {t.name for n in seqio.MixtureRegistry.names() for t in seqio.get_mixture_or_task(n).tasks}
    assert {n.partition("_")[2] for n in set(ours) & theirs} == here


@pytest.mark.parametrize("mixture", MIXTURES)
def test_every_task_gives_what_its_cache_serves(corpus, mixture):
    job = caching(corpus, mixture)
    lock = cache_mixture(job)
    for split in ("train", "validation"):
        found = agreed(job, lock, split)
        assert all(each.holds for each in found), [str(each) for each in found]
        assert {each.task: each.compared for each in found} == {
            n: len(c) for n, c in caches(lock, split).items()
        }
        assert agreement.compare_rows(lock, split, SHAPE, LAYOUT) == []
    assert "agree on" in str(found[0])


def test_examples_that_the_job_refuses_for_their_length_are_no_disagreement(corpus, tmp_path):
    job = caching(corpus, "embedded_text_only", max_slots=300, max_reject_frac=1.0, cache_dir=str(tmp_path))
    lock = cache_mixture(job)
    assert any("too_long" in r["reason"] for cache in caches(lock).values() for r in cache.rejects())
    assert all(each.holds for each in agreed(job, lock))


def test_what_changed_since_caching_is_named(corpus, tmp_path):
    shutil.copytree(corpus / "embedded", tmp_path / "embedded")
    job = dataclasses.replace(caching(corpus, "embedded_audio_to_caption"), data_root=str(tmp_path))
    job = dataclasses.replace(job, cache_dir=str(tmp_path / "cache"))
    lock = cache_mixture(job)
    clips = [c for c in read_manifest(tmp_path / "embedded") if c.split == "train" and c.audio]
    changed, gone = dataclasses.replace(clips[0], caption="Something else."), clips[1]
    write_manifest(tmp_path / "embedded", [changed, *clips[2:], dataclasses.replace(gone, id="new")])
    (found,) = agreed(dataclasses.replace(job, shard_inputs=1000), lock)
    assert not found.holds and "run cache_tasks again" in str(found)
    assert f"{changed.id}: length" in found.different or any(changed.id in i for i in found.only_cache)
    assert "new" in found.only_seqio and gone.id in found.only_cache


def test_validation_compares_with_seqio_and_ends_with_another_code(corpus, tmp_path, capsys):
    shutil.copytree(corpus / "embedded", tmp_path / "embedded")
    job = caching(
        corpus, "embedded_audio_to_caption", data_root=str(tmp_path), cache_dir=str(tmp_path / "cache")
    )
    lock = cache_mixture(job)
    flags = [f"--lock={lock}", "--validate", f"--data_root={tmp_path}", "--steps=4",
             "--gin.InspectConfig.shape=@BatchShape()", "--gin.BatchShape.rows=2", "--gin.BatchShape.slots=4096",
             "--gin.BatchShape.chunks=24", "--gin.InspectConfig.limits=@MixtureLimits()",
             "--gin.MixtureLimits.min_packing=0.0", "--gin.MixtureLimits.allow_stale=True"]  # fmt: skip
    assert inspect_data.main(flags) == 0
    assert "embedded_audio_to_caption train: SeqIO and cache agree on" in capsys.readouterr().out
    clips = list(read_manifest(tmp_path / "embedded"))
    changed = next(c for c in clips if c.split == "train" and c.audio)
    other = dataclasses.replace(changed, caption="Something else.")
    write_manifest(tmp_path / "embedded", [other if c is changed else c for c in clips])
    assert inspect_data.main(flags) == inspect_data.EXIT_VIOLATED
    assert f"seqio: embedded_audio_to_caption: differ 1: {changed.id}" in capsys.readouterr().out
    assert inspect_data.main([*flags, "--gin.InspectConfig.task_modules=('tasks.nowhere',)"]) == 0
    assert "not compared with SeqIO: tasks.nowhere cannot be imported" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "embedded")
    assert inspect_data.main(flags) == 0
    assert (
        "not compared with SeqIO: embedded_audio_to_caption: input embedded/manifest.jsonl"
        in capsys.readouterr().out
    )


def test_a_row_that_differs_is_named_with_its_array(corpus, monkeypatch):
    job = caching(corpus, "embedded_audio_to_caption")
    lock = cache_mixture(job)
    agreement.configure(job)
    truth = agreement.log_mel
    monkeypatch.setattr(agreement, "log_mel", lambda samples: truth(samples) + 1e-6)
    assert "row 0: mel" in agreement.compare_rows(lock, "validation", SHAPE, LAYOUT)


def test_one_shard_may_stand_for_all(corpus):
    job = caching(corpus, "embedded_text_only", shard_inputs=7)
    lock = cache_mixture(job)
    agreement.configure(job)
    (cache,) = caches(lock).values()
    found = agreement.compare("embedded_text_only", "train", cache, max_shards=1)
    assert found.holds and found.compared == cache.manifest["shards"][0]["records"]
    assert json.dumps(dataclasses.asdict(found))
