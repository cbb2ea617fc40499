"""Seeded permutations that can be evaluated anywhere, in constant memory (Feistel networks)."""

import functools
import hashlib

import numpy as np
from jaxtyping import Int64, UInt64

_ROUNDS = 6
_MASK = (1 << 64) - 1


def stable_hash(*parts: object) -> int:
    """64 bits of a hash that is the same in every process and on every machine."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def short_hash(value: object) -> str:
    """Sixteen hex digits of a value's repr."""
    return f"{stable_hash(repr(value)):016x}"


@functools.lru_cache(maxsize=4096)
def round_keys(*seed: object) -> UInt64[np.ndarray, "6"]:
    """What a seed makes of the network: one key per round."""
    key = stable_hash(*seed)
    return np.asarray([stable_hash(key, r) for r in range(_ROUNDS)], np.uint64)


def permute(
    positions: Int64[np.ndarray, "n"], sizes: Int64[np.ndarray, "n"], keys: UInt64[np.ndarray, "n 6"]
) -> Int64[np.ndarray, "n"]:
    """Maps each position to where the permutation of its own [0, size) puts it.

    Args:
        positions: each of [0, size), in any order.
        sizes: length of the permuted range; np.permutation would need this much memory.
        keys: `round_keys` of the permutation that a position belongs to.
    """
    halves = _half_bits(sizes)
    values, sizes = np.asarray(positions).astype(np.uint64), np.asarray(sizes).astype(np.uint64)
    masks = (np.uint64(1) << halves) - np.uint64(1)
    pending, columns = np.arange(len(values)), np.ascontiguousarray(np.asarray(keys).T)
    while len(pending):
        # Cycle walking: the network permutes [0, 4^half); walk on until the value falls inside [0, size).
        values[pending] = _network(values[pending], halves, masks, columns)
        out = values[pending] >= sizes[pending]
        pending, halves, masks, columns = pending[out], halves[out], masks[out], columns[:, out]
    return values.astype(np.int64)


def _half_bits(sizes: np.ndarray) -> np.ndarray:
    """Half the bits that hold [0, size), rounded up; at least one."""
    bits = np.frexp(np.maximum(1, np.asarray(sizes, np.int64) - 1).astype(np.float64))[1]
    return ((bits + 1) // 2).astype(np.uint64)


def _network(values: np.ndarray, halves: np.ndarray, masks: np.ndarray, keys: np.ndarray) -> np.ndarray:
    left, right = values >> halves, values & masks
    for key in keys:
        left, right = right, left ^ (mix(right + key) & masks)
    return (left << halves) | right


def mix(values: UInt64[np.ndarray, "n"]) -> UInt64[np.ndarray, "n"]:
    """The finaliser of splitmix64: every input bit moves every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def draw(key: int, *numbers: int) -> float:
    """A number of [0, 1) that key and numbers decide; cheaper than seeding a generator for each."""
    for number in (*numbers, 0):
        key = (key + number * 0x9E3779B97F4A7C15) & _MASK
        key = ((key ^ key >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        key = ((key ^ key >> 27) * 0x94D049BB133111EB) & _MASK
        key ^= key >> 31
    return (key >> 11) * 2.0**-53
