"""Audio that is seen and heard within a page."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.audio import encode_flac
from bagpiper_jax.pages.pictures import data_uri


@dataclasses.dataclass(frozen=True)
class Recording:
    """A waveform to see and to hear.

    Attributes:
        caption: says what it is, below it and to a screen reader.
        note: stands small behind the caption.
        picture: `data:` address of its spectrogram.
        sound: `data:` address of its FLAC; "" where the page is silent.
    """

    caption: str
    note: str
    picture: str
    sound: str


def recording(
    samples: Float32[np.ndarray, "samples"],
    caption: str,
    draw: Callable[[Float32[np.ndarray, "samples"]], bytes],
    note: str = "",
    audible: bool = True,
) -> Recording:
    """A 16 kHz waveform for a page.

    Args:
        samples: within [-1, 1]; what is beyond is clipped.
        draw: makes its picture, a PNG file.
        audible: with its sound; without it, a page shows recordings that may not be passed on.
    """
    sound = data_uri(encode_flac(np.clip(samples, -1, 1).astype(np.float32)), "audio/flac") if audible else ""
    return Recording(caption, note, data_uri(draw(samples), "image/png"), sound)
