"""Requests as the arrays of a step, and the sizes of the programs that take them."""

import functools
from collections.abc import Collection, Sequence

import numpy as np

from bagpiper_jax.generation.requests import Request
from bagpiper_jax.generation.sampling import MODALITIES
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.generation.step import Orders, Rows


def as_rows(requests: Sequence[Request], size: int, streams: int) -> Rows:
    """The state of each request of S streams; idle rows behind them."""
    return Rows(
        _column([r.token for r in requests], size, (streams,)),
        _column([r.position for r in requests], size),
        _column([r.phase for r in requests], size),
        _column([r.step for r in requests], size),
    )


def as_orders(requests: Sequence[Request], size: int, tables: np.ndarray) -> Orders:
    """What each request asks of a step, and where its pages are."""

    settings = _column([_settings(r.config) for r in requests], size, (5, len(MODALITIES)), np.float32)
    top_k, min_steps, max_steps = (settings[:, i].astype(np.int32) for i in (2, 3, 4))
    return Orders(
        tables=tables,
        seed=_column([r.seed % 2**32 for r in requests], size, dtype=np.uint32),
        segment=_column([len(r.segments) for r in requests], size),
        wanted=_column([r.config.wanted(len(r.segments)) for r in requests], size),
        temperature=settings[:, 0],
        guidance=settings[:, 1],
        top_k=top_k,
        min_steps=min_steps,
        max_steps=max_steps,
    )


@functools.lru_cache(maxsize=256)
def _settings(config: LoopConfig) -> np.ndarray:
    """[5, 2]: temperature, guidance, top_k, min_steps and max_steps of text and of audio."""
    names = "temperature", "guidance", "top_k", "min_steps", "max_steps"
    return np.array([[getattr(config.sampling(m), name) for m in MODALITIES] for name in names], np.float32)


def fitting(rows: int, guided: int, sizes: Collection[tuple[int, int]]) -> tuple[int, int] | None:
    """The smallest of the sizes (rows, branches) that holds so many, and no branches where none is needed."""
    enough = [s for s in sizes if s[0] >= rows and (s[1] >= guided if guided else s[1] == 0)]
    return min(enough, key=sum, default=None)


def _column(values: Sequence, size: int, shape: tuple[int, ...] = (), dtype=np.int32) -> np.ndarray:
    column = np.zeros((size, *shape), dtype)
    if len(values):
        column[: len(values)] = values
    return column
