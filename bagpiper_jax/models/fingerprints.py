"""What tells one model's parameters from another's, however they are stored, divided or read.

A sum over all values of a parameter, so that neither the order nor the parts in which they come matter; over the values
as bfloat16, so that a checkpoint and the same one in half the bytes are one model. It tells models apart, and is no
protection against someone who makes one on purpose.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jaxtyping import Array, Float, UInt32

WORDS = 4
"""Of a fingerprint, 32 bits each."""

_EXPONENT = 0x7F80


def checksum(values: Float[Array, "..."] | Float[np.ndarray, "..."]) -> UInt32[np.ndarray, ""]:
    """Of a parameter or a part of it; checksums of parts add up, modulo 2³², to that of the whole."""
    if isinstance(values, np.ndarray) or _is_here(values):
        return _on_host(np.asarray(values))
    return np.asarray(_on_device(values))


def _is_here(values: jax.Array) -> bool:
    """On a CPU a sum takes less time than to compile one for each shape."""
    return values.is_fully_addressable and {device.platform for device in values.devices()} == {"cpu"}


@jax.jit
def _on_device(values):
    return jnp.sum(_mixed(jax.lax.bitcast_convert_type(values.astype(jnp.bfloat16), jnp.uint16), jnp))


def _on_host(values: np.ndarray) -> np.ndarray:
    # Counted first: there are fewer kinds of 16 bits than values.
    bits = np.ascontiguousarray(values).astype(ml_dtypes.bfloat16).reshape(-1).view(np.uint16)
    counts = np.bincount(bits, minlength=1 << 16).astype(np.uint32)
    return np.asarray(np.sum(_mixed(np.arange(1 << 16, dtype=np.uint16), np) * counts, dtype=np.uint32))


def _mixed(bits, xp):
    """Bits that look like chance, zeros for zeros and for numbers so small that some devices take them for zero."""
    wide = xp.where((bits & _EXPONENT) == 0, 0, bits).astype(xp.uint32)
    wide = wide * xp.uint32(0x9E3779B1)
    wide = (wide ^ (wide >> xp.uint32(15))) * xp.uint32(0x85EBCA77)
    return wide ^ (wide >> xp.uint32(13))


class Fingerprint:
    """Grows with the parts of parameters that are read."""

    def __init__(self) -> None:
        self._sums: dict[str, int] = {}

    def add(self, path: str, values: Float[Array, "..."] | Float[np.ndarray, "..."]) -> None:
        """A parameter of the model, or a part of it that was not yet added."""
        self._sums[path] = (self._sums.get(path, 0) + int(checksum(values))) % (1 << 32)

    def value(self) -> UInt32[np.ndarray, " 4"]:
        """Of all that was added."""
        lines = "".join(f"{path} {self._sums[path]}\n" for path in sorted(self._sums))
        return np.frombuffer(hashlib.sha256(lines.encode()).digest()[: 4 * WORDS], "<u4").astype(np.uint32)


def of_parameters(parameters: Mapping[str, Any]) -> UInt32[np.ndarray, " 4"]:
    """The fingerprint of parameters that are all there."""
    found = Fingerprint()
    for path, values in parameters.items():
        found.add(path, values)
    return found.value()


def shown(words: Iterable[int]) -> str:
    """A fingerprint as 32 hexadecimal digits."""
    return "".join(f"{int(word):08x}" for word in words)
