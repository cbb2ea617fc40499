"""A seeded permutation that can be evaluated anywhere, in constant memory (a Feistel network)."""

import hashlib

import numpy as np
from jaxtyping import Int64

_ROUNDS = 6


def stable_hash(*parts: object) -> int:
    """64 bits of a hash that is the same in every process and on every machine."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def permute(positions: Int64[np.ndarray, "n"], size: int, key: int) -> Int64[np.ndarray, "n"]:
    """Maps positions in [0, size) to where a seeded permutation of [0, size) puts them.

    Args:
        positions: any of [0, size), in any order.
        size: length of the permuted range; np.permutation would need this much memory.
        key: 64-bit seed.
    """
    half = max(1, (int(size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    keys = [np.uint64(stable_hash(key, r)) for r in range(_ROUNDS)]
    values = np.asarray(positions).astype(np.uint64)
    pending = np.arange(len(values))
    while len(pending):
        # Cycle walking: the network permutes [0, 4^half); walk on until the value falls inside [0, size).
        values[pending] = _network(values[pending], half, mask, keys)
        pending = pending[values[pending] >= size]
    return values.astype(np.int64)


def _network(values: np.ndarray, half: int, mask: np.uint64, keys: list[np.uint64]) -> np.ndarray:
    left, right = values >> np.uint64(half), values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right + key) & mask)
    return (left << np.uint64(half)) | right


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: every input bit moves every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
