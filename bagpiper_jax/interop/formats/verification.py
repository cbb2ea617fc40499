"""Whether the contents of a checkpoint of others are what its author wrote, where anything tells.

A .pt file has a checksum of every record. A safetensors file has none, so that its contents are compared with a
SHA-256 that stands beside it: `<file>.sha256`, `SHA256SUMS`, or the name that the hub's cache stores it under.
"""

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from bagpiper_jax import files
from bagpiper_jax.interop.faults import InterchangeError, shown
from bagpiper_jax.interop.formats import torch_file

logger = logging.getLogger(__name__)

SUMS = "SHA256SUMS"
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")

_EXPONENTS = {"bfloat16": 0x7F80, "float16": 0x7C00}
"""Bits that are all set in infinities and NaN: numpy's own test of 16-bit floats converts each one."""
_CHUNK_VALUES = 1 << 18


def verify(paths: Iterable[Path]) -> None:
    """Compares files with the checksums in or beside them, and says of which ones nothing tells the contents.

    Raises:
        InterchangeError: contents that are not what their checksum tells, or a broken file of checksums.
    """
    for path in sorted(set(paths)):
        told = _told(path)
        if told:
            expected, where = told
            found = files.sha256(path)
            if found != expected.lower():
                raise InterchangeError(
                    f"{path} has the SHA-256 {found}, {where} tells {expected}; fetch it again"
                )
            logger.info("%s: its contents are those that %s tells", path, where)
        elif path.suffix != ".safetensors" and torch_file.verify(path):
            logger.info("%s: its contents are those that its own checksums tell", path)
        else:
            logger.warning(
                "%s: its contents could not be verified, since it has no checksums. Names, shapes and types are "
                "checked, and that values are finite; other damage would pass. A SHA-256 in %s.sha256 is compared",
                path,
                path.name,
            )


def _told(path: Path) -> tuple[str, str] | None:
    """The SHA-256 that a file should have, and what tells it."""
    beside, sums = path.with_name(path.name + ".sha256"), path.with_name(SUMS)
    if beside.is_file():
        words = _lines(beside)
        if not words or not _SHA256.fullmatch(words[0][0]):
            raise InterchangeError(f"{beside} does not begin with a SHA-256 of 64 hexadecimal digits")
        return words[0][0], beside.name
    if sums.is_file():
        for line in _lines(sums):
            if len(line) == 2 and line[1].removeprefix("*").removeprefix("./") == path.name:
                if not _SHA256.fullmatch(line[0]):
                    raise InterchangeError(f"{sums}: {shown(line[0])} of {path.name} is no SHA-256")
                return line[0], SUMS
    if path.is_symlink() and _SHA256.fullmatch(blob := path.readlink().name):
        return blob, "the hub's cache"
    return None


def _lines(path: Path) -> list[list[str]]:
    """The words of each line that has any."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]


def require_finite(name: str, values: np.ndarray) -> np.ndarray:
    """The values. Raises InterchangeError if any of them is infinite or no number."""
    exponent = _EXPONENTS.get(values.dtype.name)
    if exponent is None:
        finite = all(np.isfinite(chunk).all() for chunk in _chunks(values))
    else:
        bits = _chunks(values.view(np.uint16))
        finite = not any(((chunk & np.uint16(exponent)) == exponent).any() for chunk in bits)
    if not finite:
        raise InterchangeError(
            f"{name} holds values that are infinite or no numbers; fetch the checkpoint again"
        )
    return values


def _chunks(values: np.ndarray) -> Iterator[np.ndarray]:
    """All values a few at a time, as they lie in memory: looking at them all at once would double what a part takes."""
    return np.nditer(  # type: ignore[return-value]  # one operand: plain arrays
        values, flags=["external_loop", "buffered", "zerosize_ok"], buffersize=_CHUNK_VALUES, order="K"
    )
