"""DNSMOS of Microsoft: opinions on speech, 1 to 5, by the networks of the package speechmos (MIT)."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.evaluation.evaluators import sound, weights
from bagpiper_jax.evaluation.metrics import dnsmos

_INSTALL = "speechmos==0.0.1.1"
_P835 = {
    "dnsmos": "dnsmos_models/sig_bak_ovr.onnx",
    "dnsmos_personalized": "pdnsmos_models/sig_bak_ovr.onnx",
}
_P808 = "dnsmos_models/model_v8.onnx"


class Dnsmos:
    """Opinions on a clip: P.835's of the signal, the background and the whole, and P.808's.

    Attributes:
        name: the variant, "dnsmos" or "dnsmos_personalized".
        version: SHA-256 of both networks.
    """

    def __init__(self, directory: Path, variant: str):
        runtime = weights.library("onnxruntime", "onnxruntime", variant)
        networks = [directory / _P835[variant], directory / _P808]
        self.name, self.version = variant, weights.version(*networks)
        self._p835, self._p808 = (
            runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in networks
        )

    def opinions(self, path: Path) -> dict[str, float]:
        """The opinions "ovrl", "sig", "bak" and "p808" on a file. Raises audio.AudioError."""
        return self.opinions_of(sound.read_as_librosa(path, dnsmos.RATE))

    def opinions_of(self, samples: Float32[np.ndarray, " samples"]) -> dict[str, float]:
        """The same of a 16 kHz waveform, which is cut at full scale."""
        samples = dnsmos.doubled(np.clip(samples, -1, 1))
        windows = [samples[start : start + dnsmos.WINDOW] for start in dnsmos.starts(len(samples))]
        outputs = np.concatenate([self._p835.run(None, {"input_1": w[None]})[0] for w in windows])
        overall = [self._p808.run(None, {"input_1": _mel(w)})[0][0, 0] for w in windows]
        return {**dnsmos.opinions(outputs, self.name), "p808": float(np.mean(overall))}


def open_dnsmos(path: str = "") -> Dnsmos:
    """See `open_evaluator`. A path is a directory as the package's."""
    return _open(path, "dnsmos")


def open_personalized(path: str = "") -> Dnsmos:
    """The variant that takes other voices than the speaker's for noise."""
    return _open(path, "dnsmos_personalized")


def _open(path: str, variant: str) -> Dnsmos:
    directory = path or weights.in_package("speechmos", _INSTALL, variant)
    return Dnsmos(weights.at(str(directory), variant, _P835[variant], _P808), variant)


def _mel(window: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, "1 frames 120"]:
    """What P.808's network takes: decibels below the loudest, of all but the last 10 ms."""
    import librosa

    power = librosa.feature.melspectrogram(
        y=window[:-160], sr=dnsmos.RATE, n_fft=321, hop_length=160, n_mels=120
    )
    return ((librosa.power_to_db(power, ref=np.max) + 40) / 40).T[None].astype(np.float32)
