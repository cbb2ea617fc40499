"""Small caches for tests, written by the real shard writer from made-up dialogues; no SeqIO involved."""

from pathlib import Path

import numpy as np

from bagpiper_jax import audio
from bagpiper_jax.caching import shards
from bagpiper_jax.caching.joining import finish
from bagpiper_jax.data.cache import TaskCache, shard_name
from bagpiper_jax.data.lock import Lock, LockedTask, write_lock
from bagpiper_jax.dialogue import MODALITIES, ROLES
from bagpiper_jax.text import ByteTokenizer
from bagpiper_jax.vocabulary import Vocabulary

STREAMS, CODES = 8, 64
VOCABULARY = Vocabulary(text_size=256, codebook_size=CODES)
LIMITS = shards.Limits(text_size=256, codebook_size=CODES, num_streams=STREAMS, max_slots=8192)


def example(messages, name: str = "") -> dict:
    """Task features of (role, modality, payload) triples: text, codes [N, 8], or a waveform."""
    texts, codes, waves, table = [], [], [], []
    for role, modality, payload in messages:
        if modality == "text":
            payload, store = np.asarray(ByteTokenizer().encode(payload), np.int32), texts
        else:
            store = codes if role == "assistant" else waves
        start = sum(len(p) for p in store)
        store.append(payload)
        table.append((ROLES[role], MODALITIES[modality], start, len(payload)))
    columns = np.asarray(table, np.int32).reshape(-1, 4).T
    return {
        **dict(zip(("msg_role", "msg_modality", "msg_start", "msg_len"), columns, strict=True)),
        "msg_weight": np.ones(len(table), np.float32),
        "msg_variant": np.zeros(len(table), np.int32),
        "text": np.concatenate([*texts, np.zeros(0, np.int32)]).astype(np.int32),
        "codes": np.concatenate([*codes, np.zeros((0, STREAMS), np.int32)]).astype(np.int32),
        "audio": audio.encode_flac(np.concatenate(waves)) if waves else b"",
        "id": name.encode(),
        "outcome": b"",
    }


def dialogue_of(direction: str, rng: np.random.Generator) -> list:
    """A random dialogue of one of the five directions; clips are 0.05 to 3 s."""
    text = "".join(rng.choice(list("abc def!"), rng.integers(3, 40))) + "."
    wave = (0.1 * rng.normal(size=rng.integers(800, 48000))).astype(np.float32)
    codes = rng.integers(0, CODES, (rng.integers(1, 60), STREAMS)).astype(np.int32)
    return {
        "caption_to_audio": [("user", "text", text), ("assistant", "audio", codes)],
        "audio_to_caption": [("user", "audio", wave), ("assistant", "text", text)],
        "text_only": [("assistant", "text", text)],
        "understanding": [("user", "audio", wave), ("user", "text", "what?"), ("assistant", "text", text)],
        "generation": [
            ("system", "text", "sys"),
            ("user", "text", "make it"),
            ("assistant", "text", text),
            ("assistant", "audio", codes),
        ],
    }[direction]


def write_cache(directory: Path, examples: list[dict], num_shards: int = 2, limits=LIMITS) -> TaskCache:
    """Writes the examples as a finished cache."""
    directory.mkdir(parents=True, exist_ok=True)
    for shard in range(num_shards):
        mine = examples[shard::num_shards]
        shards.write_shard(iter(mine), len(mine), limits, directory, shard, num_shards)
    finish(directory, {}, num_shards, max_reject_frac=1.0)
    return TaskCache(directory)


def damage(cache: TaskCache, index: int) -> Path:
    """Flips a bit of a record's text where it lies; returns the shard's file."""
    shard, _ = cache.locate(index)
    path = cache.directory / shard_name("core", shard, len(cache.manifest["shards"]))
    data, text = bytearray(path.read_bytes()), cache.read(index).text.astype("<i4").tobytes()
    assert data.count(text) == 1, "the text does not tell where the record lies"
    data[data.find(text) + 4] ^= 0x10
    path.write_bytes(bytes(data))
    return path


def write_mixture_of(root: Path, examples: list[dict], task: str = "task", **lock_fields) -> Path:
    """A mixture of one task with these training examples; returns the path of its lock."""
    made = write_cache(root / task / "train", examples, num_shards=1)
    path = str(made.directory.relative_to(root))
    locked = LockedTask(task, 1.0, path, made.manifest_sha256, len(made), "audio_to_caption")
    return _lock(root, {"train": (locked,)}, **lock_fields)


def write_mixture(
    root: Path, directions: dict[str, tuple[int, float]], seed: int = 0, split: str = "train", **lock_fields
) -> Path:
    """A cached mixture with `direction → (examples, rate)`; returns the path of its lock."""
    tasks = []
    for direction, (count, rate) in directions.items():
        rng = np.random.default_rng([seed, len(tasks)])
        examples = [example(dialogue_of(direction, rng), f"{direction}-{i}") for i in range(count)]
        made = write_cache(root / direction / split, examples)
        path = str(made.directory.relative_to(root))
        tasks.append(LockedTask(direction, rate, path, made.manifest_sha256, len(made), direction))
    return _lock(root, {split: tuple(tasks)}, **lock_fields)


def _lock(root: Path, splits: dict[str, tuple[LockedTask, ...]], **lock_fields) -> Path:
    fields = {
        "mixture": "synthetic",
        "rate_unit": "examples",
        "tokenizer_fingerprint": "byte",
        "tokenizer_size": 256,
        "codec_fingerprint": "codec-a",
        "codebook_size": CODES,
        "num_streams": STREAMS,
        "max_slots": 8192,
        "splits": splits,
    }
    path = root / "synthetic.lock.json"
    write_lock(path, Lock(**{**fields, **lock_fields}))
    return path
