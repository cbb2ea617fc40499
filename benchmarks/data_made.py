"""Caches for benchmarks/data.py: made-up records of realistic lengths, written by the exporter's own shard writer.

Lengths are drawn like the release's data: captions of 200 to 800 tokens (the published filter), clips of 1 to 30 s
with a mean of 10 s, documents of some 700 tokens with a long tail.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np

from bagpiper_jax import audio
from bagpiper_jax.caching import shards
from bagpiper_jax.caching.joining import finish
from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.data.lengths import TaskLengths
from bagpiper_jax.data.lock import Lock, LockedTask, write_lock
from bagpiper_jax.dialogue import MODALITIES, ROLES
from bagpiper_jax.manifest import Clip, write_manifest
from bagpiper_jax.vocabulary import Vocabulary

VOCABULARY = Vocabulary()
SLOTS, CHUNKS, ROWS = 8192, 80, 8
SILENT, HEARING = ("caption_to_audio", "text_only"), ("caption_to_audio", "audio_to_caption", "text_only")
_LIMITS = shards.Limits(VOCABULARY.text_size, VOCABULARY.codebook_size, VOCABULARY.num_streams, SLOTS)


def lengths_of(kind: str, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(text tokens, seconds of audio) of examples of one direction."""
    if kind == "text_only":
        return np.clip(rng.lognormal(6.4, 0.8, count), 20, SLOTS - 8).astype(int), np.zeros(count)
    return (
        np.clip(rng.lognormal(5.95, 0.35, count), 200, 800).astype(int),
        np.clip(rng.gamma(2.0, 5.0, count), 1, 30),
    )


def task_lengths(kind: str, name: str, rate: float, rng: np.random.Generator, count: int) -> TaskLengths:
    """What a plan would know of such a task."""
    text, seconds = lengths_of(kind, rng, count)
    none = np.zeros(count, np.uint8)
    if kind == "text_only":
        return TaskLengths(name, rate, (text + 4).astype(np.uint16), none, none)
    if kind == "caption_to_audio":
        return TaskLengths(name, rate, (text + 50 * seconds + 14).astype(np.uint16), none, none)
    heard = [audio.tower_tokens(int(100 * s)) for s in seconds]
    return TaskLengths(
        name, rate, (text + heard + 7).astype(np.uint16), np.ceil(seconds).astype(np.uint8), none
    )


def example(kind: str, text: int, seconds: float, sound: np.ndarray, rng: np.random.Generator) -> dict:
    """Features of one example as a task emits them."""
    ids = rng.integers(0, VOCABULARY.text_size, text).astype(np.int32)
    codes, flac = np.zeros((0, VOCABULARY.num_streams), np.int32), b""
    if kind == "text_only":
        table = [("assistant", "text", text)]
    elif kind == "caption_to_audio":
        codes = rng.integers(0, VOCABULARY.codebook_size, (int(50 * seconds), VOCABULARY.num_streams))
        table = [("user", "text", text), ("assistant", "audio", len(codes))]
    else:
        samples, begin = int(16_000 * seconds), int(rng.integers(0, len(sound) // 2))
        flac = audio.encode_flac(np.take(sound, np.arange(begin, begin + samples), mode="wrap"))
        table = [("user", "audio", samples), ("assistant", "text", text)]
    return {
        "msg_role": np.asarray([ROLES[role] for role, _, _ in table], np.int32),
        "msg_modality": np.asarray([MODALITIES[modality] for _, modality, _ in table], np.int32),
        "msg_start": np.zeros(len(table), np.int32),
        "msg_len": np.asarray([length for _, _, length in table], np.int32),
        "msg_weight": np.ones(len(table), np.float32),
        "msg_variant": np.zeros(len(table), np.int32),
        "text": ids, "codes": codes.astype(np.int32), "audio": flac, "id": b"made-up", "outcome": b"",
    }  # fmt: skip


def sound_like(rng: np.random.Generator, seconds: int = 60) -> np.ndarray:
    """Noise that falls with frequency and swells like syllables; FLAC makes 60 to 80 MB an hour of it."""
    spectrum = np.fft.rfft(rng.normal(size=16_000 * seconds))
    spectrum /= np.maximum(20.0, np.arange(len(spectrum)) / seconds) ** 0.8
    wave = np.fft.irfft(spectrum)
    swell = 0.05 + np.sin(2 * np.pi * 3 * np.arange(len(wave)) / 16_000) ** 4
    return (0.1 * swell * wave / wave.std()).astype(np.float32)


def make_mixture(root: Path, name: str, kinds: tuple[str, ...], count: int) -> Path:
    """A cached mixture that gives each direction the same share of tokens; made once, then found."""
    path = root / f"{name}.lock.json"
    if path.exists():
        return path
    tasks = tuple(_cached(root, kind, count) for kind in kinds)
    release = {"codebook_size": VOCABULARY.codebook_size, "num_streams": VOCABULARY.num_streams}
    sizes = {"tokenizer_size": VOCABULARY.text_size, "max_slots": SLOTS, **release}
    write_lock(path, Lock(name, "tokens", "made-up", codec_fingerprint="", splits={"train": tasks}, **sizes))
    return path


def _cached(root: Path, kind: str, count: int) -> LockedTask:
    directory, rng = root / kind, np.random.default_rng(HEARING.index(kind))
    if not (directory / "COMPLETE").exists():
        directory.mkdir(parents=True, exist_ok=True)
        sound = sound_like(rng)
        made = (
            example(kind, int(t), s, sound, rng) for t, s in zip(*lengths_of(kind, rng, count), strict=True)
        )
        shards.write_shard(made, count, _LIMITS, directory, 0, 1)
        finish(directory, {}, 1, 1.0)
    cache = TaskCache(directory)
    return LockedTask(kind, 1.0, kind, cache.manifest_sha256, len(cache), kind)


def time_writing(root: Path, count: int = 2000) -> float:
    """Examples of text and codes a second of CPU that the shard writer checks, measures, hashes and writes."""
    rng = np.random.default_rng(0)
    kind = "caption_to_audio"
    made = [example(kind, int(t), s, None, rng) for t, s in zip(*lengths_of(kind, rng, count), strict=True)]
    root.mkdir(parents=True, exist_ok=True)
    began = time.process_time()
    shards.write_shard(iter(made), count, _LIMITS, root, 0, 1)
    return count / (time.process_time() - began)


def captions_like(rng: np.random.Generator, lengths: np.ndarray, known: int = 30_000) -> list[str]:
    """Captions of so many words, from a vocabulary used as by Zipf's law, with commas and full stops."""
    syllables = ["".join(pair) for pair in itertools.product("bcdfghklmnprstvw", "aeiou")]
    words = ["".join(rng.choice(syllables, n)) for n in 1 + rng.poisson(1.2, known)]
    chance = 1 / (np.arange(known) + 2.7)
    drawn = rng.choice(known, int(lengths.sum()), p=chance / chance.sum())
    ends = rng.choice(["", "", "", "", "", "", "", "", ",", "."], len(drawn))
    said = [words[word] + end for word, end in zip(drawn, ends, strict=True)]
    stops = np.cumsum(lengths)
    return [" ".join(said[a:b]).capitalize() + "." for a, b in zip(stops - lengths, stops, strict=True)]


def make_corpus(root: Path, count: int) -> str:
    """A corpus of captions and codes, which needs no audio file to be exported; returns its codec's fingerprint."""
    from bagpiper_jax.data import codes

    rng, corpus, codec = np.random.default_rng(0), root / "user", "0123456789ab"
    directory = codes.store_directory(corpus, codec)
    directory.mkdir(parents=True, exist_ok=True)
    text, seconds = lengths_of("caption_to_audio", rng, count)
    captions = captions_like(rng, (0.75 * text).astype(int))
    clips = [
        Clip(f"c{i}", "train", "sound", f"audio/{i}.flac", float(s), caption=caption)
        for i, (caption, s) in enumerate(zip(captions, seconds, strict=True))
    ]
    write_manifest(corpus, clips)
    made = [rng.integers(0, 1024, (int(50 * s), 8)).astype(np.uint16) for s in seconds]
    shard = codes.shard_name(0, 1)
    codes.write_shard(directory / shard, [c.id for c in clips], made, 8)
    manifest = {
        "fingerprint": codec, "clips": count, "shards": {shard: ""},
        "config": {"codebook_size": 1024, "num_codebooks": 8},
    }  # fmt: skip
    (directory / codes.MANIFEST).write_text(json.dumps(manifest))
    return codec


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--examples", type=int, default=1500)
    given = parser.parse_args()
    make_mixture(given.directory, "silent", SILENT, given.examples)
    make_mixture(given.directory, "hearing", HEARING, given.examples)
