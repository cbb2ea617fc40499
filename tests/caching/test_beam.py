"""Caches and codes that Apache Beam's own runner writes are those that one process writes."""

import hashlib
import json
import sys

import pytest
from task_helpers import config
from tiny_codec import HOP, TINY, noise

from bagpiper_jax import audio
from bagpiper_jax.caching.export import cache_mixtures
from bagpiper_jax.caching.tokenization import TokenizeConfig, tokenize
from bagpiper_jax.manifest import Clip, write_manifest
from bagpiper_jax.models.codecs.xcodec import functional, storage
from bagpiper_jax.pipelines.each import ALL_CORES, IN_PROCESS, PipelineError, for_each


def written(directory):
    """File → its digest, without the few that tell when and by whom they were made."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files
    return {str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture
def corpus(tmp_path):
    """Eleven clips; one has no audio file, one is empty."""
    directory = tmp_path / "user"
    (directory / "audio").mkdir(parents=True)
    clips = []
    for i in range(11):
        path = f"audio/{i}.wav"
        audio.write(directory / path, noise(i, (0 if i == 7 else 3 + i) * HOP, 1)[0])
        clips.append(Clip(f"c{i}", "train", "sound", path, 1.0, caption=f"Noise number {i}."))
    (directory / "audio/3.wav").unlink()
    write_manifest(directory, clips)
    return directory


def settings(root, name, **fields):
    rates = {"user_caption_to_audio": 0.0}
    fields = {"shard_inputs": 3, "max_reject_frac": 0.5, "splits": ("train",), "rates": rates} | fields
    return config(root, cache_dir=str(root / name), **fields)


@pytest.mark.parametrize("options", [IN_PROCESS, pytest.param(ALL_CORES, marks=pytest.mark.slow)])
def test_a_cache_is_the_same_to_the_bit(tmp_path, corpus, options, caplog):
    cache_mixtures(settings(tmp_path, "alone"))
    with caplog.at_level("INFO"):
        cache_mixtures(settings(tmp_path, "beam", beam=options))
    assert written(tmp_path / "alone") == written(tmp_path / "beam")
    counted = {"ok": 20, "rejected audio_empty": 1, "rejected audio_missing": 1}
    assert f"Apache Beam counted {counted}" in caplog.text and "prism" not in caplog.text.lower()


def test_what_one_attempt_finished_another_keeps(tmp_path, corpus, monkeypatch):
    from tasks.sources import ManifestSource

    read = ManifestSource.read_shard

    def failing(source, split, shard, shards):
        if shard == 2:
            raise OSError("the disk is gone")
        return read(source, split, shard, shards)

    with monkeypatch.context() as patched:
        patched.setattr(ManifestSource, "read_shard", failing)
        with pytest.raises(PipelineError, match="the disk is gone"):
            cache_mixtures(settings(tmp_path, "beam", beam=IN_PROCESS))
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "beam").rglob("*.array_record*")}
    assert finished
    cache_mixtures(settings(tmp_path, "beam", beam=IN_PROCESS))
    cache_mixtures(settings(tmp_path, "alone"))
    assert written(tmp_path / "alone") == written(tmp_path / "beam")
    assert all(path.stat().st_mtime_ns == moment for path, moment in finished.items())


@pytest.mark.slow
def test_codes_are_the_same_to_the_bit(tmp_path, corpus, caplog):
    start = functional.initialize(TINY, seed=2)
    latent, _ = functional.build(start, TINY).latent(noise(0, 32 * HOP))
    books = latent.reshape(-1, TINY.codebook_width)[:48].reshape(3, 16, -1)
    codec = tmp_path / "codec.safetensors"
    storage.save_codec(codec, start | {"quantizer/embed": books}, TINY)
    wanted = TokenizeConfig(str(corpus), str(codec), batch_seconds=0.5, clips_per_shard=4)
    directory = tokenize(wanted)
    alone = written(directory)
    for path in directory.iterdir():
        path.unlink()
    with caplog.at_level("INFO"):
        assert tokenize(TokenizeConfig(**vars(wanted) | {"beam": IN_PROCESS})) == directory
    assert written(directory) == alone
    rejects = json.loads((directory / "manifest.json").read_text())["rejects"]
    assert sum(rejects.values()) == 2
    counted = {"ok": 9, **{f"rejected {reason}": count for reason, count in rejects.items()}}
    assert f"Apache Beam counted {dict(sorted(counted.items()))}" in caplog.text


def _square(item):
    if item == 3:
        raise ArithmeticError("three is no number")
    return {"seen": 1, "sum": item * item}


def test_counters_are_the_runners_and_a_fault_is_named():
    assert for_each("squares", [1, 2, 4], _square, IN_PROCESS) == {"seen": 3, "sum": 21}
    with pytest.raises(PipelineError, match="squares on Apache Beam failed: .*three is no number"):
        for_each("squares", [1, 2, 3], _square, IN_PROCESS)


def test_a_runner_that_does_not_exist_and_a_missing_beam_are_named(monkeypatch):
    with pytest.raises(PipelineError, match="NoRunner"):
        for_each("squares", [1], _square, ["--runner=NoRunner"])
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(PipelineError, match=r"pip install 'bagpiper_jax\[beam\]'"):
        for_each("squares", [1], _square, IN_PROCESS)
