"""What each of our parameters is filled with, read in parts of its leading axis (layers or rows)."""

import dataclasses
import functools
import logging
import zlib
from collections.abc import Callable, Iterable, Mapping

import jax
import numpy as np

from bagpiper_jax.interop.formats.tensors import FLOATS, Tensor
from bagpiper_jax.interop.formats.verification import require_finite
from bagpiper_jax.interop.tables.grammar import SAME, Entry
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.training.state import TABLES, initial_parameters

logger = logging.getLogger(__name__)

_ROWS_DRAWN_TOGETHER = 1024


@dataclasses.dataclass(frozen=True)
class Filling:
    """The values of one parameter.

    Attributes:
        dtype: that of its source.
        read: reads [start, stop) of the leading axis.
        divisible: whether less than all of it may be read at once.
    """

    dtype: np.dtype
    read: Callable[[int, int], np.ndarray]
    divisible: bool = True


Fillings = dict[str, Filling]


def from_tensors(entries: Iterable[Entry], tensors: Mapping[str, Tensor]) -> Fillings:
    """Parameters made of their tensors. Stacked layers of different types take the one that holds them all."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.ours, []).append(entry)
    return {name: _from_group(name, group, tensors) for name, group in groups.items()}


def _from_group(name: str, group: list[Entry], tensors: Mapping[str, Tensor]) -> Filling:
    types = {tensors[entry.theirs].dtype for entry in group}
    dtype = functools.reduce(np.promote_types, types)
    if len(types) > 1:
        odd = [f"{e.theirs} ({tensors[e.theirs].dtype})" for e in group if tensors[e.theirs].dtype != dtype]
        logger.warning("%s mixes types and is stored as %s; widened: %s", name, dtype, ", ".join(odd))

    def read(entry: Entry) -> np.ndarray:
        return require_finite(entry.theirs, tensors[entry.theirs].read())

    if group[0].index is None:
        (entry,) = group
        tensor = tensors[entry.theirs]
        if entry.layout == SAME:
            return Filling(dtype, lambda start, stop: require_finite(entry.theirs, tensor.rows(start, stop)))
        return Filling(dtype, lambda start, stop: entry.to_ours(read(entry))[start:stop], divisible=False)
    ordered = sorted(group, key=lambda entry: entry.index or 0)

    def layer(index: int) -> np.ndarray:
        return ordered[index].to_ours(read(ordered[index]))

    def layers(start: int, stop: int) -> np.ndarray:
        first = layer(start)
        if stop - start == 1:
            return first[None]
        stacked = np.empty((stop - start, *first.shape), dtype)
        stacked[0] = first
        for index in range(start + 1, stop):
            stacked[index - start] = layer(index)
        return stacked

    return Filling(dtype, layers)


def placed(filling: Filling, rows: int, first: int, around: Filling) -> Filling:
    """`rows` rows of a filling from row `first` on, all other rows of `around`."""

    def read(start: int, stop: int) -> np.ndarray:
        low, high = max(start, first), min(stop, first + rows)
        if low >= high:
            return around.read(start, stop).astype(filling.dtype)
        parts = [
            around.read(start, low) if start < low else None,
            filling.read(low - first, high - first),
            around.read(high, stop) if high < stop else None,
        ]
        return np.concatenate([part.astype(filling.dtype) for part in parts if part is not None])

    return Filling(filling.dtype, read)


def normal_rows(name: str, width: int, std: float, seed: int) -> Filling:
    """New rows of a vocabulary table, N(0, std) as the reference draws them (docs/reference.md, Embedding and head).

    A row depends on seed, name and its number alone.
    """

    def block(index: int) -> np.ndarray:
        random = np.random.default_rng([seed, zlib.crc32(name.encode()), index])
        return random.standard_normal((_ROWS_DRAWN_TOGETHER, width), np.float32) * np.float32(std)

    def read(start: int, stop: int) -> np.ndarray:
        rows = np.empty((stop - start, width), np.float32)
        for index in range(start // _ROWS_DRAWN_TOGETHER, -(-stop // _ROWS_DRAWN_TOGETHER)):
            first = index * _ROWS_DRAWN_TOGETHER
            low, high = max(start, first), min(stop, first + _ROWS_DRAWN_TOGETHER)
            rows[low - start : high - start] = block(index)[low - first : high - first]
        return rows

    return Filling(FLOATS["float32"], read)


def initial(config: BagpiperConfig, seed: int, names: Iterable[str]) -> Fillings:
    """Parameters drawn as a run from scratch draws them: tables by rows, stacked ones by layers, when they are read."""
    return {name: _initial(config, seed, name) for name in names}


def _initial(config: BagpiperConfig, seed: int, name: str) -> Filling:
    if name in TABLES:
        return normal_rows(name, config.decoder.width, config.decoder.init_std, seed)
    draw = _drawing(config, name)
    if "/layers/" not in name:
        return Filling(
            FLOATS["float32"], lambda start, stop: np.asarray(draw(seed))[start:stop], divisible=False
        )

    def layers(start: int, stop: int) -> np.ndarray:
        seeds = [np.random.SeedSequence([seed, layer]).generate_state(1)[0] for layer in range(start, stop)]
        return np.concatenate([draw(each) for each in seeds])

    return Filling(FLOATS["float32"], layers)


@functools.cache
def _drawing(config: BagpiperConfig, name: str) -> Callable[[int], jax.Array]:
    """Seed → this parameter of a model of one layer; no other is computed."""
    parts = {part: dataclasses.replace(getattr(config, part), layers=1) for part in ("decoder", "tower")}
    single = dataclasses.replace(config, **parts)
    # It runs a few times, so that optimising it would cost more than it saves.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(
        lambda seed: initial_parameters(single, jax.random.key(seed))[name], compiler_options=options
    )


def as_dtype(fillings: Fillings, dtype: str) -> Fillings:
    """The same values in another type; "same" keeps those of the sources."""
    if dtype == "same":
        return fillings
    return {name: _converted(filling, FLOATS[dtype]) for name, filling in fillings.items()}


def _converted(filling: Filling, dtype: np.dtype) -> Filling:
    return dataclasses.replace(
        filling, dtype=dtype, read=lambda start, stop: filling.read(start, stop).astype(dtype, copy=False)
    )
