"""The tokenize job and the code store."""

import io
import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from places import REPOSITORY
from tiny_codec import HOP, TINY, noise

from bagpiper_jax import jobs
from bagpiper_jax.caching import tokenization
from bagpiper_jax.caching.tokenization import TokenizeConfig, tokenize
from bagpiper_jax.data import codes as store
from bagpiper_jax.data.codes import CodeStore, CodeStoreError
from bagpiper_jax.jobs import tokenize_audio
from bagpiper_jax.manifest import Clip, write_manifest
from bagpiper_jax.models.codecs.xcodec import functional, storage

soundfile = pytest.importorskip("soundfile")


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    """A codec file with random weights."""
    start = functional.initialize(TINY, seed=2)
    latent, _ = functional.build(start, TINY).latent(noise(0, 32 * HOP))
    books = latent.reshape(-1, TINY.codebook_width)[:48].reshape(3, 16, -1)
    path = tmp_path_factory.mktemp("codec") / "codec.safetensors"
    storage.save_codec(path, start | {"quantizer/embed": books}, TINY)
    return path


def write_corpus(directory, frames=(3, 20, 9, 20, 1, 31, 9), extra=()):
    (directory / "audio").mkdir(parents=True, exist_ok=True)
    clips = []
    for index, count in enumerate(frames):
        name = f"audio/{index}.wav"
        soundfile.write(directory / name, noise(index, count * HOP + 11 * index, 1)[0], 16_000, "FLOAT")
        clips.append(Clip(id=f"clip{index}", split="train", domain="sound", audio=name))
    write_manifest(directory, [*clips, *extra])
    return directory


def written_manifest(codes):
    return json.loads((codes.directory / store.MANIFEST).read_text())


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "corpus")


def test_a_full_disk_is_named_and_the_same_command_finishes(corpus, codec, capfd):
    """A file-size limit makes writes fail as a full disk does."""
    flags = [f"--gin.TokenizeConfig.corpus={corpus}", f"--gin.TokenizeConfig.codec={codec}"]
    flags += ["--gin.TokenizeConfig.clips_per_shard=3"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(SystemExit) as end:
            jobs.run("tokenize_audio", flags)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capfd.readouterr().err
    assert end.value.code == 2 and f"tokenize_audio: cannot write the codes {corpus}/codes/" in said
    assert "Free space" in said and "run tokenize_audio again" in said
    assert not list(corpus.glob("codes/*/manifest.json"))
    tokenize_audio.main(flags)
    name = json.loads(next(corpus.glob("codes/*/manifest.json")).read_text())["fingerprint"]
    assert len(CodeStore.open(corpus, name).ids()) == 7


def test_codes_are_those_of_each_clip_alone(corpus, codec):
    directory = tokenize(TokenizeConfig(str(corpus), str(codec), batch_seconds=2, clips_per_shard=3))
    parameters, config = storage.load_codec(codec)
    codes = CodeStore.open(corpus, directory.name)
    assert codes.ids() == [f"clip{i}" for i in range(7)]
    assert "clip3" in codes and "clip9" not in codes
    for index, frames in enumerate((3, 20, 9, 20, 1, 31, 9)):
        waveform = noise(index, frames * HOP + 11 * index, 1)
        alone = np.asarray(functional.encode(parameters, config, waveform))[0]
        assert codes[f"clip{index}"].dtype == np.uint16
        np.testing.assert_array_equal(codes[f"clip{index}"], alone)
    manifest = written_manifest(codes)
    assert manifest["frames"] == 93 and manifest["rejects"] == {}
    codes.verify()


def test_unusable_audio_is_rejected_by_reason(tmp_path, codec):
    corpus = tmp_path / "corpus"
    audio = corpus / "audio"
    audio.mkdir(parents=True)
    (audio / "torn.wav").write_bytes(b"RIFF....")
    (audio / "zero.wav").write_bytes(b"")
    soundfile.write(audio / "nan.wav", np.full(HOP * 3, np.nan, np.float32), 16_000, "FLOAT")
    soundfile.write(audio / "short.wav", np.zeros(HOP - 1, np.float32), 16_000)
    extra = [
        Clip(id=name, split="train", domain="sound", audio=f"audio/{name}.wav")
        for name in ("torn", "zero", "nan", "short", "absent")
    ]
    extra.append(Clip(id="prose", split="train", domain="text", text="no audio at all"))
    write_corpus(corpus, (4, 2), extra)
    directory = tokenize(TokenizeConfig(str(corpus), str(codec), batch_seconds=2))
    codes = CodeStore.open(corpus, directory.name)
    assert codes.ids() == ["clip0", "clip1"]
    rejected = [json.loads(line) for line in (directory / "rejects.jsonl").read_text().splitlines()]
    reasons = {line["id"]: line["reason"] for line in rejected}
    assert reasons == {
        "torn": "corrupt", "zero": "empty", "nan": "not_finite", "short": "too_short", "absent": "missing",
    }  # fmt: skip
    assert sum(written_manifest(codes)["rejects"].values()) == 5


def test_a_clip_whose_reading_fails_in_any_way_is_counted_by_type(corpus, codec, monkeypatch):
    read = tokenization.audio.read

    def failing(path):
        if path.name == "1.wav":
            raise AttributeError("no layout")
        return read(path)

    monkeypatch.setattr(tokenization.audio, "read", failing)
    directory = tokenize(TokenizeConfig(str(corpus), str(codec), batch_seconds=2))
    (rejected,) = [json.loads(line) for line in (directory / "rejects.jsonl").read_text().splitlines()]
    assert (rejected["id"], rejected["reason"]) == ("clip1", "error_AttributeError")
    assert "1.wav: no layout" in rejected["detail"] and "clip1" not in CodeStore.open(corpus, directory.name)


def test_audio_that_changed_under_its_name_is_encoded_again(corpus, codec):
    config = TokenizeConfig(str(corpus), str(codec), batch_seconds=2, clips_per_shard=3)
    before = tokenize(config)
    manifest, old = (corpus / "manifest.jsonl").read_bytes(), CodeStore.open(corpus, before.name)
    soundfile.write(corpus / "audio" / "1.wav", noise(77, 12 * HOP, 1)[0], 16_000, "FLOAT")
    tokenize(config)
    assert (corpus / "manifest.jsonl").read_bytes() == manifest
    new = CodeStore.open(corpus, before.name)
    assert len(new["clip1"]) == 12 and new.manifest.audio != old.manifest.audio
    np.testing.assert_array_equal(new["clip3"], old["clip3"])


def test_finished_shards_are_kept_and_the_rest_is_made(corpus, codec, monkeypatch):
    config = TokenizeConfig(str(corpus), str(codec), batch_seconds=2, clips_per_shard=2)
    directory = tokenize(config)
    whole = {path.name: path.read_bytes() for path in directory.glob("*.npz")}
    (directory / "manifest.json").unlink()
    (directory / "shard-00001-of-00004.npz").unlink()
    read, read_file = [], tokenization.audio.read

    def watched(path):
        read.append(path.name)
        return read_file(path)

    monkeypatch.setattr(tokenization.audio, "read", watched)
    with pytest.raises(CodeStoreError, match="unfinished; run tokenize_audio again"):
        CodeStore.open(corpus, directory.name)
    tokenize(config)
    assert sorted(read) == ["2.wav", "3.wav"]
    for name, content in whole.items():
        with np.load(directory / name) as again, np.load(io.BytesIO(content)) as before:
            for array in ("ids", "offsets", "codes"):
                np.testing.assert_array_equal(again[array], before[array])


def test_a_changed_corpus_is_tokenized_anew(corpus, codec):
    config = TokenizeConfig(str(corpus), str(codec), batch_seconds=2)
    directory = tokenize(config)
    write_corpus(corpus, (5, 5))
    assert tokenize(config) == directory
    assert [len(codes) for codes in CodeStore.open(corpus, directory.name).values()] == [5, 5]


def test_another_codec_is_refused_by_name(corpus, codec):
    directory = tokenize(TokenizeConfig(str(corpus), str(codec), batch_seconds=2))
    with pytest.raises(CodeStoreError, match=f"has codes of codec {directory.name}; run tokenize_audio"):
        CodeStore.open(corpus, "0123456789ab")
    assert store.codec_fingerprint(codec) == directory.name
    with pytest.raises(CodeStoreError, match="is not a codec file"):
        store.codec_fingerprint(corpus / "audio" / "0.wav")


def test_damage_is_found(corpus, codec):
    directory = tokenize(TokenizeConfig(str(corpus), str(codec), batch_seconds=2))
    shard = directory / "shard-00000-of-00001.npz"
    codes = CodeStore.open(corpus, directory.name)
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CodeStoreError, match="differs from its checksum"):
        codes.verify()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(CodeStoreError, match="is damaged"):
        CodeStore.open(corpus, directory.name)


def assert_same_codes(one, other) -> None:
    assert one.keys() == other.keys() and one.manifest.shards == other.manifest.shards
    for clip in one:
        np.testing.assert_array_equal(one[clip], other[clip])


def test_machines_encode_their_parts_and_one_joins_them(tmp_path, codec):
    whole = write_corpus(tmp_path / "whole")
    name = tokenize(TokenizeConfig(str(whole), str(codec), batch_seconds=2, clips_per_shard=2)).name
    parts = write_corpus(tmp_path / "parts")
    settings = {"corpus": str(parts), "codec": str(codec), "batch_seconds": 2, "clips_per_shard": 2}
    for shard in ("1/3", "2/3", "1/3"):
        tokenize(TokenizeConfig(**settings, shard=shard))
    assert [p.name[:11] for p in sorted((parts / "codes" / name).glob("*.npz"))] == [
        "shard-00001",
        "shard-00002",
    ]
    with pytest.raises(CodeStoreError, match="unfinished"):
        CodeStore.open(parts, name)
    tokenize(TokenizeConfig(**settings))
    assert_same_codes(CodeStore.open(parts, name), CodeStore.open(whole, name))
    with pytest.raises(CodeStoreError, match="must be 'i/n'"):
        tokenize(TokenizeConfig(**settings, shard="3/3"))


@pytest.mark.slow
def test_a_pod_divides_the_shards(tmp_path, codec):
    """Other processes, devices and batches, so other batch mates for every clip; the codes are the same."""
    whole = write_corpus(tmp_path / "whole")
    name = tokenize(TokenizeConfig(str(whole), str(codec), batch_seconds=2, clips_per_shard=2)).name
    corpus = write_corpus(tmp_path / "pod")
    settings = {"corpus": str(corpus), "codec": str(codec), "batch_seconds": 0.01, "clips_per_shard": 2}
    flags = [f"--gin.TokenizeConfig.{key}={value!r}" for key, value in settings.items()]
    command = [sys.executable, "launch/local_pod.py", "--processes", "2", "--"]
    job = [sys.executable, "-m", "bagpiper_jax", "tokenize_audio", *flags]
    repository = str(REPOSITORY)
    done = subprocess.run(
        [*command, *job], cwd=repository, env=dict(os.environ, XLA_FLAGS=""), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0 and "part 1 of 2 is encoded" in done.stdout, done.stdout
    assert_same_codes(CodeStore.open(corpus, name), CodeStore.open(whole, name))


@pytest.mark.slow
def test_a_killed_job_continues(tmp_path, codec):
    corpus = write_corpus(tmp_path / "corpus", (2, 5, 9, 16, 3, 7) * 20)
    expected = tokenize(TokenizeConfig(str(corpus), str(codec), batch_seconds=1, clips_per_shard=4))
    whole = {clip: codes.copy() for clip, codes in CodeStore.open(corpus, expected.name).items()}
    copy = write_corpus(tmp_path / "copy", (2, 5, 9, 16, 3, 7) * 20)
    job = [sys.executable, "-m", "bagpiper_jax", "tokenize_audio"]
    settings = {"corpus": str(copy), "codec": str(codec), "batch_seconds": 1.0, "clips_per_shard": 4}
    job += [f"--gin.TokenizeConfig.{name}={value!r}" for name, value in settings.items()]
    process = subprocess.Popen(job)
    directory = store.store_directory(copy, expected.name)
    while len(list(directory.glob("*.npz"))) < 5:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (directory / "manifest.json").exists()
    subprocess.run(job, check=True)
    resumed = CodeStore.open(copy, expected.name)
    assert resumed.keys() == whole.keys()
    for clip, codes in whole.items():
        np.testing.assert_array_equal(resumed[clip], codes)
