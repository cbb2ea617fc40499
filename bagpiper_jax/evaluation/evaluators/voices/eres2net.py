"""ERes2Net: the voices of CV3-Eval, by a file of 3D-Speaker's, such as speech_eres2net_sv_en_voxceleb_16k.

A file may be a checkpoint (`pretrained_eres2net.ckpt`), whose layers are computed here, or what 3D-Speaker's
`export_speaker_embedding_onnx.py` makes of one. Layers and front end: speakerlab/models/eres2net/ERes2Net.py and
speakerlab/process/processor.py of modelscope/3D-Speaker at 09e78067.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from bagpiper_jax import audio
from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators import mel, sound, weights

RATE, BANDS = 16_000, 80
_BLOCKS = (3, 4, 6, 3)
"""Of each of the four layers; those of the last two join the parts of a block by attention."""
_STEPS = 2
"""Parts of a block."""
_SHORTEST, _HIGHEST = 6_400, 20.0
"""Samples of a voice; where activations within blocks are cut."""


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (-1,) for part in ("weight", "bias", "running_mean", "running_var")}


def _joining(name: str) -> dict[str, tuple[int, ...]]:
    found = {f"{name}.local_att.{place}.weight": (-1, -1, 1, 1) for place in (0, 3)}
    found |= {f"{name}.local_att.{place}.bias": (-1,) for place in (0, 3)}
    return found | _norm(f"{name}.local_att.1") | _norm(f"{name}.local_att.4")


def _block(name: str, joins: bool, first: bool) -> dict[str, tuple[int, ...]]:
    found = {f"{name}.conv{each}.weight": (-1, -1, 1, 1) for each in (1, 3)} | _norm(f"{name}.bn1")
    found |= _norm(f"{name}.bn3")
    for step in range(_STEPS):
        found |= {f"{name}.convs.{step}.weight": (-1, -1, 3, 3)} | _norm(f"{name}.bns.{step}")
    if joins:
        found |= _joining(f"{name}.fuse_models.0")
    if first:
        found |= {f"{name}.shortcut.0.weight": (-1, -1, 1, 1)} | _norm(f"{name}.shortcut.1")
    return found


LAYOUT = {"conv1.weight": (-1, 1, 3, 3), **_norm("bn1"), "seg_1.weight": (-1, -1), "seg_1.bias": (-1,)}
for _layer, _count in enumerate(_BLOCKS, 1):
    for _number in range(_count):
        LAYOUT |= _block(f"layer{_layer}.{_number}", _layer > 2, not _number)
for _layer, _joins in ((1, "12"), (2, "123"), (3, "1234")):
    LAYOUT |= {f"layer{_layer}_downsample.weight": (-1, -1, 3, 3)} | _joining(f"fuse_mode{_joins}")
"""Name → shape in torch's layout; widths are the checkpoint's own."""


class Eres2Net:
    """A network that knows voices."""

    name = "eres2net"

    def __init__(self, file: Path, embed: Callable[[np.ndarray], np.ndarray]):
        self.version, self._embed = weights.version(file), embed

    def voice(self, path: Path) -> Float32[np.ndarray, " numbers"]:
        """The voice in a file. Raises audio.AudioError, also of a clip of less than 0.4 s."""
        samples = sound.read(path, RATE)
        if len(samples) < _SHORTEST:
            raise audio.AudioError("too_short", path, f"{len(samples) / RATE:.2f} s, 0.4 s are needed")
        features = mel.kaldi(samples, RATE, BANDS)
        found = self._embed(features - features.mean(0))
        return found / np.linalg.norm(found)


def open_eres2net(path: str = "") -> Eres2Net:
    """See `open_evaluator`. A path is a file, .onnx, .ckpt, .pt or .safetensors."""
    if not path:
        raise MissingEvaluatorError(
            "eres2net needs weights, which no package carries; name the path of 3D-Speaker's pretrained_eres2net.ckpt "
            "(speech_eres2net_sv_en_voxceleb_16k), or of the .onnx file made of it"
        )
    file = weights.at(path, "eres2net")
    return Eres2Net(file, _of_onnx(file) if file.suffix == ".onnx" else Network(path).embed)


def _of_onnx(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    runtime = weights.library("onnxruntime", "onnxruntime", "eres2net")
    try:
        session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has no class of its own for a file that it cannot read
        raise MissingEvaluatorError(f"eres2net: {file} is no ONNX file: {error}; export it again") from error
    (given,) = session.get_inputs()
    return lambda features: session.run(None, {given.name: features[None]})[0][0]


class Network:
    """The layers of a checkpoint, computed by torch, which takes clips of any length without compiling anew."""

    def __init__(self, path: str):
        tensors = weights.checkpoint(path, "eres2net", LAYOUT)
        self._torch: Any = weights.library("torch", "torch", "eres2net")
        self._p = {name: self._torch.from_numpy(np.array(each)) for name, each in tensors.items()}

    def embed(self, features: Float32[np.ndarray, "frames 80"]) -> Float32[np.ndarray, " numbers"]:
        """The embedding of log-mel features whose mean is 0."""
        torch = self._torch
        with torch.inference_mode():
            x = torch.from_numpy(features.T[None, None].copy())
            x = torch.relu(self._normed("bn1", self._conv("conv1", x)))
            joined = None
            for layer, joins in enumerate(("", "12", "123", "1234"), 1):
                x = self._layer(layer, x)
                if joins:
                    joined = self._join(f"fuse_mode{joins}", x, joined)
                else:
                    joined = x
                if layer < len(_BLOCKS):
                    joined = self._conv(f"layer{layer}_downsample", joined, 2)
            spread = torch.sqrt(joined.var(-1) + 1e-8)
            pooled = torch.cat([joined.mean(-1).flatten(1), spread.flatten(1)], 1)
            return (pooled @ self._p["seg_1.weight"].T + self._p["seg_1.bias"])[0].numpy()

    def _layer(self, layer: int, x: Any) -> Any:
        for number in range(_BLOCKS[layer - 1]):
            x = self._block(f"layer{layer}.{number}", x, 2 if layer > 1 and not number else 1)
        return x

    def _block(self, name: str, x: Any, stride: int) -> Any:
        parts = self._cut(self._normed(f"{name}.bn1", self._conv(f"{name}.conv1", x, stride))).chunk(
            _STEPS, 1
        )
        done: list[Any] = []
        for step, part in enumerate(parts):
            if done and f"{name}.fuse_models.0.local_att.0.weight" in self._p:
                part = self._join(f"{name}.fuse_models.0", done[-1], part)
            elif done:
                part = done[-1] + part
            done.append(
                self._cut(self._normed(f"{name}.bns.{step}", self._conv(f"{name}.convs.{step}", part)))
            )
        out = self._normed(f"{name}.bn3", self._conv(f"{name}.conv3", self._torch.cat(done, 1)))
        if f"{name}.shortcut.0.weight" in self._p:
            x = self._normed(f"{name}.shortcut.1", self._conv(f"{name}.shortcut.0", x, stride))
        return self._cut(out + x)

    def _join(self, name: str, x: Any, other: Any) -> Any:
        """Two maps, weighed by what both show."""
        y = self._conv(f"{name}.local_att.0", self._torch.cat([x, other], 1))
        y = self._torch.nn.functional.silu(self._normed(f"{name}.local_att.1", y))
        y = self._torch.tanh(self._normed(f"{name}.local_att.4", self._conv(f"{name}.local_att.3", y)))
        return x * (1 + y) + other * (1 - y)

    def _conv(self, name: str, x: Any, stride: int = 1) -> Any:
        kernel = self._p[f"{name}.weight"]
        bias = self._p.get(f"{name}.bias")
        return self._torch.nn.functional.conv2d(x, kernel, bias, stride, kernel.shape[-1] // 2)

    def _normed(self, name: str, x: Any) -> Any:
        mean, spread, weight, bias = (
            self._p[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return self._torch.nn.functional.batch_norm(x, mean, spread, weight, bias)

    def _cut(self, x: Any) -> Any:
        return x.clamp(0, _HIGHEST)
