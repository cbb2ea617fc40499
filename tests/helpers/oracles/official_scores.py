"""Results of the official scoring scripts on inputs by formula: tests/data/benchmarks, origin in each SOURCE.txt."""

import json

import numpy as np
from places import TESTS


def golden(name: str) -> dict:
    """What the official script gave, of the benchmark of that name."""
    return json.loads((TESTS / "data/benchmarks" / name / "golden.json").read_text(encoding="utf-8"))


def embeddings(seed, n, d, rank=None, scale=1.0, shift=0.0, dtype="float64") -> np.ndarray:
    """The rows [n, d] that `golden("audio_generation")["formula"]["embeddings"]` describes."""
    row, column = np.arange(n)[:, None], np.arange(d)[None]
    values = np.sin((row + 1) * (column + 1) * 0.37 + seed)
    values = values + 0.5 * np.cos((row + 1) * 0.11 * (column + 2) + 2 * seed)
    if rank:
        values = values[:, :rank] @ np.sin(1.3 * np.arange(rank)[:, None] + 0.7 * column)
    return (values * scale + shift).astype(dtype)


def logits(seed, n, classes=0, scale=1.0, d=0) -> np.ndarray:
    """The float32 rows [n, classes or d] of `["formula"]["logits"]`."""
    row, column = np.arange(n)[:, None], np.arange(classes or d)[None]
    return (scale * np.sin((row + 1) * (column + 1) * 0.7 + seed)).astype(np.float32)
