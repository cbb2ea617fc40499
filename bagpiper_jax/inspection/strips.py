"""Pictures of what a model is given: slots as strips of colour, features and codes as heat."""

import functools

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from bagpiper_jax import vocabulary as v
from bagpiper_jax.pages.pictures import heat_palette, png
from bagpiper_jax.vocabulary import Vocabulary

KINDS = {
    "frame": (125, 131, 140),
    "system": (138, 79, 174),
    "user": (47, 111, 181),
    "assistant": (47, 143, 91),
    "heard": (196, 86, 45),
    "pad": (70, 76, 86),
}
"""What a slot holds, and its colour; codes have a heat of their own."""

_NAMES = list(KINDS)
_FIRST_CODE = 16
_FAINT_BLUE, _FULL_BLUE = (176, 205, 240), (20, 80, 160)


def streams_picture(
    tokens: Int32[np.ndarray, "T S"], heard: Bool[np.ndarray, "T"], vocabulary: Vocabulary
) -> bytes:
    """Tokens as PNG: a column per slot, a line per stream; empty slots are transparent.

    Args:
        heard: slots whose input is audio features.
    """
    pixels = np.zeros(tokens.shape, np.uint8)
    special = (tokens > 0) & (tokens < v.NUM_SPECIALS)
    pixels[special] = _kind("frame")
    pixels[:, 0] = np.where(_text(tokens, vocabulary), _speaker(tokens[:, 0]), pixels[:, 0])
    codec = tokens >= vocabulary.codec_start
    stream, code = np.divmod(tokens - vocabulary.codec_start, vocabulary.stream_size)
    heat = _FIRST_CODE + (code - 1) * (255 - _FIRST_CODE) // max(1, vocabulary.codebook_size - 1)
    pixels = np.where(codec, np.where(code == 0, _kind("pad"), heat), pixels)
    pixels[heard, 0] = _kind("heard")
    return png(np.ascontiguousarray(pixels.T.astype(np.uint8)), _palette())


def _kind(name: str) -> int:
    return 1 + _NAMES.index(name)


def _text(tokens: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    return (tokens[:, 0] >= vocabulary.text_start) & (tokens[:, 0] < vocabulary.codec_start)


def _speaker(stream0: np.ndarray) -> np.ndarray:
    """Kind of the role that speaks at each slot: the last role token before it."""
    kinds = {v.SYSTEM: _kind("system"), v.USER: _kind("user"), v.ASSISTANT: _kind("assistant")}
    said = np.isin(stream0, list(kinds))
    last = np.maximum.accumulate(np.where(said, np.arange(len(stream0)), 0))
    return np.asarray([kinds.get(int(t), 0) for t in stream0[last]], np.uint8)


@functools.cache
def _palette() -> UInt8[np.ndarray, "256 3"]:
    palette = np.zeros((256, 3), np.uint8)
    palette[1 : 1 + len(KINDS)] = list(KINDS.values())
    # The darkest heat would look like nothing on a dark page.
    palette[_FIRST_CODE:] = heat_palette()[np.linspace(40, 255, 256 - _FIRST_CODE).astype(int)]
    return palette


def weights_picture(weights: Float32[np.ndarray, "T S"]) -> bytes:
    """Loss weights as PNG, a line per stream, the largest darkest; slots without loss are transparent."""
    level = np.sqrt(weights / (weights.max(initial=0) or 1.0))  # codec streams weigh an eighth or less
    pixels = np.where(weights > 0, 1 + level * 254, 0)
    blues = np.linspace(_FAINT_BLUE, _FULL_BLUE, 256).astype(np.uint8)
    return png(np.ascontiguousarray(pixels.T.astype(np.uint8)), blues)


def mel_picture(mel: Float32[np.ndarray, "F M"]) -> bytes:
    """Log-mel features as PNG, low frequencies at the bottom, 10 ms per pixel."""
    low, high = float(mel.min()), float(mel.max())
    return png((255 * (mel - low) / ((high - low) or 1)).astype(np.uint8).T[::-1])


def codes_picture(codes: np.ndarray, codebook_size: int) -> bytes:
    """Codes [N, S] as PNG: a column per frame of 20 ms, a line per stream."""
    return png((np.asarray(codes, np.int64) * 255 // max(1, codebook_size - 1)).astype(np.uint8).T)
