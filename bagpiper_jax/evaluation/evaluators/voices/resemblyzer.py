"""Resemblyzer: a voice as 256 numbers. A stand-in for the speaker verification networks that papers name.

The network is that of GE2E, three LSTM layers and a linear one, its weights those of the package resemblyzer
(Apache-2.0): `pip install --no-deps resemblyzer==0.1.4`, since the package asks for webrtcvad, which must be compiled.
Pauses are heard as they are, where the package cuts them out with webrtcvad.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.evaluation.evaluators import sound, weights

_INSTALL = "--no-deps resemblyzer==0.1.4"
RATE, BANDS, WIDTH, LAYERS = 16_000, 40, 256, 3
_FRAME, _HOP = 400, 160
_WINDOW = 160
"""Frames of the windows whose mean is the voice: 1.6 s, 1.3 of them a second."""
_STEP = round(RATE / 1.3 / _HOP)
_COVERAGE = 0.75
"""How much of the last window must be audio."""
_LEVEL = -30.0
"""Decibels below full scale that quieter clips are raised to."""


class Resemblyzer:
    """A network that knows voices."""

    name = "resemblyzer"

    def __init__(self, file: Path):
        torch = weights.library("torch", "torch", self.name)
        self.version = weights.version(file)
        self._torch = torch
        self._lstm = torch.nn.LSTM(BANDS, WIDTH, LAYERS, batch_first=True)
        self._linear = torch.nn.Linear(WIDTH, WIDTH)
        state = torch.load(file, map_location="cpu", weights_only=True)["model_state"]
        for prefix, layer in (("lstm.", self._lstm), ("linear.", self._linear)):
            own = {name.removeprefix(prefix): each for name, each in state.items() if name.startswith(prefix)}
            layer.load_state_dict(own)
            layer.requires_grad_(False)

    def voice(self, path: Path) -> Float32[np.ndarray, " 256"]:
        """The voice in a file, of length 1, so that a product of two is their cosine. Raises audio.AudioError."""
        return self.voice_of(sound.read(path, RATE))

    def voice_of(self, samples: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, " 256"]:
        """The same of a 16 kHz waveform."""
        _, (hidden, _) = self._lstm(self._torch.from_numpy(_windows(_louder(samples))))
        found = self._torch.relu(self._linear(hidden[-1])).numpy()
        mean = (found / np.linalg.norm(found, axis=1, keepdims=True)).mean(0)
        return mean / np.linalg.norm(mean)


def open_resemblyzer(path: str = "") -> Resemblyzer:
    """See `open_evaluator`. A path is a file as the package's `pretrained.pt`."""
    file = path or weights.in_package("resemblyzer", _INSTALL, "resemblyzer") / "pretrained.pt"
    return Resemblyzer(weights.at(str(file), "resemblyzer"))


def _louder(samples: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, " samples"]:
    level = 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-20)
    return samples if level >= _LEVEL else samples * np.float32(10 ** ((_LEVEL - level) / 20))


def _windows(samples: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, "windows 160 40"]:
    import librosa

    frames = -(-(len(samples) + 1) // _HOP)
    starts = list(range(0, max(1, frames - _WINDOW + _STEP + 1), _STEP))
    if len(starts) > 1 and len(samples) / _HOP - starts[-1] < _COVERAGE * _WINDOW:
        starts.pop()
    padded = np.pad(samples, (0, max(0, (starts[-1] + _WINDOW) * _HOP - len(samples))))
    mel = librosa.feature.melspectrogram(y=padded, sr=RATE, n_fft=_FRAME, hop_length=_HOP, n_mels=BANDS).T
    return np.stack([mel[start : start + _WINDOW] for start in starts]).astype(np.float32)
