"""Caching the real SeqIO tasks over a small corpus that a test writes."""

import itertools
import json
from pathlib import Path

import numpy as np

from bagpiper_jax import files
from bagpiper_jax.caching.config import CacheConfig
from bagpiper_jax.caching.export import cache_mixtures
from bagpiper_jax.data import codes
from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.data.lock import read_lock
from bagpiper_jax.manifest import Clip
from bagpiper_jax.text import ByteTokenizer
from bagpiper_jax.vocabulary import Vocabulary

LAYOUT = Vocabulary(text_size=256)


def clip(name: str, split: str = "train", **fields) -> Clip:
    defaults = {
        "domain": "sound",
        "audio": f"audio/{name}.wav",
        "duration": 1.0,
        "caption": f"This is {name}!",
    }
    return Clip(id=name, split=split, **{**defaults, **fields})


def config(root, **fields) -> CacheConfig:
    """Settings of the cache job over the corpus root/user, nothing that needs codes unless `fields` say so."""
    defaults = {
        "mixtures": ("user_pretraining",),
        "data_root": str(root),
        "cache_dir": str(root / "cache"),
        "rates": {"user_caption_to_audio": 0.0},
        "max_reject_frac": 0.5,
        "shard_inputs": 5,
    }
    return CacheConfig(**{**defaults, **fields})


def cache_mixture(config: CacheConfig) -> Path:
    """The lock of the one mixture that `config` names."""
    (lock,) = cache_mixtures(config)
    return lock


def caches(lock_path, split="train") -> dict[str, TaskCache]:
    """Task → its cache, of one split of a lock."""
    return {t.task: TaskCache(lock_path.parent / t.path) for t in read_lock(lock_path).tasks(split)}


def write_codes(corpus, clips: dict[str, int], fingerprint: str = "nano-codec") -> dict:
    """A finished code store with random codes of so many frames per clip."""
    rng = np.random.default_rng(0)
    made = {name: rng.integers(0, 1024, (frames, 8)).astype(np.uint16) for name, frames in clips.items()}
    directory = codes.store_directory(corpus, fingerprint)
    directory.mkdir(parents=True)
    shard = codes.shard_name(0, 1)
    codes.write_shard(directory / shard, list(made), list(made.values()), 8)
    manifest = {
        "fingerprint": fingerprint,
        "clips": len(made),
        "config": {"codebook_size": 1024, "num_codebooks": 8},
        "shards": {shard: files.sha256(directory / shard)},
    }
    (directory / codes.MANIFEST).write_text(json.dumps(manifest))
    return made


_numbers = itertools.count()


def cached(tmp_path, source, author=None, **fields):
    """The cache of a new task over a source (audio to caption), and reason and detail of its rejects by origin."""
    from tasks import mixtures, pretraining

    name = f"source_{next(_numbers)}"
    mixtures.add_task(name, source, author or pretraining.audio_to_caption)
    defaults = {"mixtures": (name,), "rates": {}, "max_reject_frac": 1.0, "shard_inputs": 3}
    made = caches(cache_mixture(config(tmp_path, **{**defaults, **fields})))[name]
    return made, {r["id"]: (r["reason"], r["detail"]) for r in made.rejects()}


def said(cache) -> dict[str, str]:
    """Clip id → what the assistant says."""
    records = [cache.read(i) for i in range(len(cache))]
    return {r.id: ByteTokenizer().decode(r.messages()[-1].content) for r in records}
