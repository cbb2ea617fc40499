"""PaSST: 768 numbers and 527 classes of AudioSet for windows of ten seconds, as stable-audio-metrics takes them.

The weights are those of PaSST-S (`passt-s-f128-p16-s10-ap.476-swa.pt`, which hear21passt downloads), by path; the
package, which wants torchaudio, is not needed. Front end and layers: preprocess.py and models/passt.py of hear21passt
0.0.26. Clips are raised to a peak of −1 dB, and windows lie as in stable-audio-metrics.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from bagpiper_jax.evaluation.evaluators import mel, sound, weights
from bagpiper_jax.evaluation.evaluators.listening import Heard
from bagpiper_jax.evaluation.metrics.divergence import windows_of_stable_audio_metrics

RATE, CLASSES = 32_000, 527
_WINDOW, _FFT, _HOP, _BANDS, _HIGHEST = 800, 1_024, 320, 128, 15_000.0
_PREEMPHASIS, _LEAST_POWER = 0.97, 1e-5
_PATCH, _STRIDE, _GRID = 16, 10, (12, 99)
"""Side of a patch of the spectrogram, steps between patches, patches of ten seconds by frequency and time."""
_SHORTEST = _HOP * _PATCH
"""Samples that have a patch; shorter clips get zeros behind them."""
_DEPTH, _WIDTH, _HEADS = 12, 768, 12


def _layout() -> dict[str, tuple[int, ...]]:
    def linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}

    def norm(name: str) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (_WIDTH,), f"{name}.bias": (_WIDTH,)}

    found: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, _WIDTH), "dist_token": (1, 1, _WIDTH)}
    found |= {"new_pos_embed": (1, 2, _WIDTH), "freq_new_pos_embed": (1, _WIDTH, _GRID[0], 1)}
    found |= {"time_new_pos_embed": (1, _WIDTH, 1, _GRID[1]), "patch_embed.proj.bias": (_WIDTH,)}
    found |= {"patch_embed.proj.weight": (_WIDTH, 1, _PATCH, _PATCH)}
    for block in (f"blocks.{number}" for number in range(_DEPTH)):
        found |= norm(f"{block}.norm1") | linear(f"{block}.attn.qkv", 3 * _WIDTH, _WIDTH)
        found |= linear(f"{block}.attn.proj", _WIDTH, _WIDTH) | norm(f"{block}.norm2")
        found |= linear(f"{block}.mlp.fc1", 4 * _WIDTH, _WIDTH) | linear(
            f"{block}.mlp.fc2", _WIDTH, 4 * _WIDTH
        )
    return found | norm("norm") | norm("head.0") | linear("head.1", CLASSES, _WIDTH)


LAYOUT = _layout()
"""Name → shape in torch's layout."""


class Passt:
    """A `Listener`. Its classes are those of AudioSet, by number."""

    name, labels = "passt", tuple(map(str, range(CLASSES)))

    def __init__(self, path: str, heads: int = _HEADS):
        self._parameters = jax.device_put(weights.checkpoint(path, self.name, LAYOUT))
        self.version, self._heads = weights.version(Path(path)), heads

    def hear(self, path: Path) -> Heard:
        """Raises audio.AudioError."""
        return self.hear_samples(sound.read(path, RATE))

    def hear_samples(self, samples: Float32[np.ndarray, " samples"]) -> Heard:
        """The same of a 32 kHz waveform."""
        samples = sound.at_peak(samples)
        found = []
        for window in windows_of_stable_audio_metrics(len(samples), RATE):
            real = samples[window.start : window.start + window.real]
            padded = np.pad(real, (0, max(window.given, _SHORTEST) - len(real)))
            found.append(_hear(self._parameters, log_mel(padded)[None], self._heads))
        return Heard(*(np.concatenate(column) for column in zip(*found, strict=True)))


def open_passt(path: str = "") -> Passt:
    """See `open_evaluator`. A path is a file, .pt or .safetensors."""
    return Passt(path)


def log_mel(samples: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, "frames 128"]:
    """The log-mel spectrogram that PaSST takes, moved and scaled to about −1 to 1."""
    edges = _FFT // 2
    x = np.asarray(samples, np.float64)
    x = np.pad(x[1:] - _PREEMPHASIS * x[:-1], edges, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(x, _FFT)[::_HOP]
    side = (_FFT - _WINDOW) // 2
    window = np.pad(np.hanning(_WINDOW), side)
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    bands = power @ mel.bands(_BANDS, _FFT, RATE, 0.0, _HIGHEST)
    return ((np.log(bands + _LEAST_POWER) + 4.5) / 5).astype(np.float32)


@functools.partial(jax.jit, static_argnames="heads")
def _hear(
    p: dict[str, Array], x: Float[Array, "clips frames 128"], heads: int
) -> tuple[Float[Array, "clips 768"], Float[Array, "clips 527"]]:
    x = jax.lax.conv_general_dilated(
        x.swapaxes(1, 2)[:, None], p["patch_embed.proj.weight"], (_STRIDE, _STRIDE), "VALID"
    )
    x = x + p["patch_embed.proj.bias"][:, None, None] + p["freq_new_pos_embed"]
    x = x + p["time_new_pos_embed"][..., : x.shape[-1]]
    x = x.reshape(*x.shape[:2], -1).swapaxes(1, 2)
    tokens = jnp.concatenate([p["cls_token"], p["dist_token"]], 1) + p["new_pos_embed"]
    x = jnp.concatenate([jnp.broadcast_to(tokens, (len(x), *tokens.shape[1:])), x], 1)
    for block in range(sum(name.endswith("attn.qkv.weight") for name in p)):
        x = x + _attended(p, f"blocks.{block}", _normed(p, f"blocks.{block}.norm1", x), heads)
        y = _linear(p, f"blocks.{block}.mlp.fc1", _normed(p, f"blocks.{block}.norm2", x))
        x = x + _linear(p, f"blocks.{block}.mlp.fc2", jax.nn.gelu(y, approximate=False))
    embedding = _normed(p, "norm", x)[:, :2].mean(1)
    return embedding, _linear(p, "head.1", _normed(p, "head.0", embedding, 1e-5))


def _attended(p: dict[str, Array], block: str, x: Float[Array, "b t d"], heads: int) -> Float[Array, "b t d"]:
    q, k, v = _linear(p, f"{block}.attn.qkv", x).reshape(*x.shape[:2], 3, heads, -1).swapaxes(0, 2)
    # [time, batch, heads, width] each.
    scores = jax.nn.softmax(jnp.einsum("tbhk,sbhk->bhts", q, k) * q.shape[-1] ** -0.5)
    return _linear(p, f"{block}.attn.proj", jnp.einsum("bhts,sbhk->bthk", scores, v).reshape(x.shape))


def _linear(p: dict[str, Array], name: str, x: Float[Array, "... a"]) -> Float[Array, "... b"]:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def _normed(
    p: dict[str, Array], name: str, x: Float[Array, "... d"], eps: float = 1e-6
) -> Float[Array, "... d"]:
    x = (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + eps)
    return x * p[f"{name}.weight"] + p[f"{name}.bias"]
