"""Parameters by path: one style of names, and one check of what is missing, unknown or misshapen.

A path is what leads to a parameter within its module, joined by slashes: `decoder/layers/ffn/up`. Checkpoints, imports,
exports and codecs all name parameters so; a file may hold them nested, or with another separator.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from bagpiper_jax.errors import Explained

Parameters = Mapping[str, Array | np.ndarray]
"""Arrays by path, on the device or on the host."""
Shapes = Mapping[str, tuple[int, ...]]

_MOST_NAMED = 12


class ParametersError(Explained, ValueError):
    """Parameters that are not those of the model at hand; each is named."""


def flatten(parameters: dict) -> dict[str, Any]:
    """A nested dict of arrays by path."""
    return flatten_dict(parameters, sep="/")


def unflatten(parameters: Mapping[str, Any]) -> dict:
    """The inverse of `flatten`; what `nnx.merge` and `nnx.update` take."""
    return unflatten_dict(dict(parameters), sep="/")


def shapes_of(parameters: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of arrays, or of whatever has one."""
    return {name: tuple(x.shape) for name, x in parameters.items()}


def require_match(
    expected: Shapes,
    found: Shapes,
    where: object,
    fault: type[Explained] = ParametersError,
    remedy: str = "its sizes are of another model",
) -> None:
    """Raises `fault` naming what is missing, unknown or misshapen among the parameters found.

    Args:
        expected: by path, of the model at hand.
        found: by path, of what was read.
        where: what was read, as the message calls it.
        fault: the class of the fault.
        remedy: what the reader of the message can do.
    """
    missing = [f"missing {name} {list(expected[name])}" for name in sorted(expected.keys() - found.keys())]
    unknown = [f"unknown {name} {list(found[name])}" for name in sorted(found.keys() - expected.keys())]
    misshapen = [
        f"{name} is {list(found[name])}, should be {list(expected[name])}"
        for name in sorted(expected.keys() & found.keys())
        if tuple(expected[name]) != tuple(found[name])
    ]
    count = len(missing) + len(unknown) + len(misshapen)
    if count:
        lines = [line for kind in (missing, unknown, misshapen) for line in _first(kind)]
        plural = "s" if count > 1 else ""
        raise fault(f"{where} does not fit, {count} fault{plural}; {remedy}:\n  " + "\n  ".join(lines))


def _first(lines: list[str]) -> Iterable[str]:
    more = len(lines) - _MOST_NAMED
    return lines if more <= 0 else [*lines[:_MOST_NAMED], f"… and {more} more"]
