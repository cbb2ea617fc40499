"""The sound of shown examples: what is heard, and codes through the codec that made them."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bagpiper_jax.errors import Explained
from bagpiper_jax.inspection.examples import Shown


class ClipFileError(Explained):
    """Clips that cannot be written; names their folder."""


Decode = Callable[[list[np.ndarray]], list[np.ndarray]]
"""Codes int [N, S] of each clip → its waveform."""


def decoder(codec: str) -> Decode:
    """Decodes with the codec of a file. Loads JAX; everything else is shown without a model."""
    from bagpiper_jax.models.codecs.opening import open_codec

    return open_codec(codec).decode


def write_clips(example: Shown, directory: Path, stem: str, decode: Decode | None = None) -> list[Path]:
    """Writes what an example hears as `<stem>_<n>.flac`, its codes as `<stem>_codes<n>.wav`; returns the paths.

    Args:
        stem: of the names; of a task's name in it, only what a file's name may hold is kept.

    Raises:
        ClipFileError: the folder cannot be written.
    """
    from bagpiper_jax import audio

    given = [m for m in example.messages if not m.dropped]
    stem = re.sub(r"[^\w.-]", "_", stem)
    clips = _named(stem, "", ".flac", [m.samples for m in given if m.samples is not None])
    codes = [m.codes for m in given if m.codes is not None]
    if decode is not None and codes:
        clips |= _named(stem, "codes", ".wav", decode(codes))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, samples in clips.items():
            audio.write(directory / name, samples)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: of libsndfile
        raise ClipFileError(f"clips cannot be written to {str(directory)!r}: {error}") from error
    return [directory / name for name in clips]


def _named(stem: str, kind: str, suffix: str, waves: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{stem}_{kind}{number}{suffix}": wave for number, wave in enumerate(waves)}
