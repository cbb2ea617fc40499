"""PANNs' Cnn14: 2,048 numbers and 527 classes of AudioSet for a whole clip, as audioldm_eval takes them.

The weights are those of audioset_tagging_cnn (`Cnn14_mAP=0.431.pth`, of audio at 32 kHz), by path. Another checkpoint
or resampler moves its Fréchet distance by tens.
"""

from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, Float, Float32

from bagpiper_jax.evaluation.evaluators import sound, weights
from bagpiper_jax.evaluation.evaluators.listening import Heard

RATE = 32_000
CLASSES = 527
_FFT, _HOP, _BANDS, _LOWEST, _HIGHEST = 1_024, 320, 64, 50, 14_000
_LEAST_POWER, _VARIANCE_EPS = 1e-10, 1e-5
_WIDTHS = (1, 64, 128, 256, 512, 1_024, 2_048)
_SHORTEST = 32 * _HOP
"""Samples that five halvings leave a frame of; shorter clips get zeros behind them."""


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}


LAYOUT = {**_norm("bn0", _BANDS)}
for _block, (_into, _out) in enumerate(zip(_WIDTHS, _WIDTHS[1:], strict=False), 1):
    LAYOUT |= {f"conv_block{_block}.conv1.weight": (_out, _into, 3, 3)}
    LAYOUT |= {f"conv_block{_block}.conv2.weight": (_out, _out, 3, 3)}
    LAYOUT |= _norm(f"conv_block{_block}.bn1", _out) | _norm(f"conv_block{_block}.bn2", _out)
for _name, _out in (("fc1", _WIDTHS[-1]), ("fc_audioset", CLASSES)):
    LAYOUT |= {f"{_name}.weight": (_out, _WIDTHS[-1]), f"{_name}.bias": (_out,)}
"""Name → shape in torch's layout."""


class Panns:
    """A `Listener` that hears a clip as one window. Its classes are those of AudioSet, by number."""

    name, labels = "panns", tuple(map(str, range(CLASSES)))

    def __init__(self, path: str):
        self._parameters = jax.device_put(weights.checkpoint(path, self.name, LAYOUT))
        self.version = weights.version(Path(path))

    def hear(self, path: Path) -> Heard:
        """Raises audio.AudioError."""
        return self.hear_samples(sound.read(path, RATE))

    def hear_samples(self, samples: Float32[np.ndarray, " samples"]) -> Heard:
        """The same of a 32 kHz waveform."""
        padded = np.pad(samples, (0, max(0, _SHORTEST - len(samples))))
        return Heard(*map(np.asarray, _hear(self._parameters, _log_mel(padded)[None])))


def open_panns(path: str = "") -> Panns:
    """See `open_evaluator`. A path is a file, .pth or .safetensors."""
    return Panns(path)


def _log_mel(samples: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, "frames 64"]:
    """Decibels of the power in bands; the ends of the clip are mirrored."""
    import librosa

    power = librosa.feature.melspectrogram(
        y=samples,
        sr=RATE,
        n_fft=_FFT,
        hop_length=_HOP,
        n_mels=_BANDS,
        fmin=_LOWEST,
        fmax=_HIGHEST,
        pad_mode="reflect",
    )
    return (10 * np.log10(np.maximum(power, _LEAST_POWER))).T.astype(np.float32)


@jax.jit
def _hear(
    p: dict[str, Array], x: Float[Array, "clips frames 64"]
) -> tuple[Float[Array, "clips 2048"], Float[Array, "clips 527"]]:
    x = _normalised(p, "bn0", x)[..., None]
    for block in range(1, len(_WIDTHS)):
        for layer in (1, 2):
            kernel = p[f"conv_block{block}.conv{layer}.weight"]
            x = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "OIHW", "NHWC")
            )
            x = jax.nn.relu(_normalised(p, f"conv_block{block}.bn{layer}", x))
        if block < len(_WIDTHS) - 1:
            x = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4
    x = x.mean(2)
    embedding = jax.nn.relu((x.max(1) + x.mean(1)) @ p["fc1.weight"].T + p["fc1.bias"])
    return embedding, embedding @ p["fc_audioset.weight"].T + p["fc_audioset.bias"]


def _normalised(p: dict[str, Array], name: str, x: Float[Array, "... width"]) -> Float[Array, "... width"]:
    scale = p[f"{name}.weight"] * jax.lax.rsqrt(p[f"{name}.running_var"] + _VARIANCE_EPS)
    return (x - p[f"{name}.running_mean"]) * scale + p[f"{name}.bias"]
