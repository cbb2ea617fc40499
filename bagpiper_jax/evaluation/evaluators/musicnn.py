"""musicnn: fifty tags of music, such as instruments, for every three seconds; of other sound it says little.

The weights are those of the package musicnn (ISC): `pip install --no-deps musicnn==0.1.0`, since the package asks for a
TensorFlow and a NumPy that are gone. Its checkpoint is read without TensorFlow. Patches lie side by side, and what
does not fill one is dropped, as in the package; a clip shorter than one is repeated, where the package fails. The
spectrogram is float32, where the package rounds it to float16, which loud clips overflow.
"""

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators import sound, tf_checkpoint, weights
from bagpiper_jax.evaluation.evaluators.listening import Heard

_INSTALL = "--no-deps musicnn==0.1.0"
RATE, PATCH = 16_000, 187
_FFT, _HOP, _BANDS = 512, 256, 96
_EPS = 1e-3
_FILES = (".index", ".data-00000-of-00001")
_LABELS = {"MTT": "MTT_LABELS", "MSD": "MSD_LABELS"}
"""How a model's directory begins → the names of its tags, in `configuration.py` beside it."""


class Musicnn:
    """A `Listener` whose embeddings are those of the layer below the tags, 200 numbers for every three seconds.

    Attributes:
        name: the model's, "mtt_musicnn" or "msd_musicnn".
    """

    def __init__(self, directory: Path):
        self.name = directory.name.lower()
        self.labels = _labels(directory)
        self.version = weights.version(*(directory / name for name in _FILES))
        tensors = tf_checkpoint.read(f"{directory}/")
        self._parameters = jax.device_put(
            {name: each for name, each in tensors.items() if "Adam" not in name and each.dtype == np.float32}
        )

    def hear(self, path: Path) -> Heard:
        """Raises audio.AudioError."""
        return self.hear_samples(sound.read(path, RATE))

    def hear_samples(self, samples: Float32[np.ndarray, " samples"]) -> Heard:
        """The same of a 16 kHz waveform."""
        found = [_hear(self._parameters, patch[None]) for patch in _patches(_log_mel(samples))]
        return Heard(*(np.concatenate(column) for column in zip(*found, strict=True)))

    def tags(self, patches: Float32[np.ndarray, "patches 187 96"]) -> Float32[np.ndarray, "patches 50"]:
        """The logits of the tags of patches of a log-mel spectrogram."""
        return np.asarray(_hear(self._parameters, patches)[1])


def open_musicnn(path: str = "") -> Musicnn:
    """See `open_evaluator`. A path is a directory as the package's `MTT_musicnn` or `MSD_musicnn`, in its package."""
    directory = Path(path or weights.in_package("musicnn", _INSTALL, "musicnn") / "MTT_musicnn")
    weights.at(str(directory.parent), "musicnn", "configuration.py")
    try:
        return Musicnn(weights.at(str(directory), "musicnn", *_FILES))
    except tf_checkpoint.CheckpointError as error:
        raise MissingEvaluatorError(
            f"musicnn: {directory} is no checkpoint ({error}); install it again"
        ) from error


def _labels(directory: Path) -> tuple[str, ...]:
    """The names of the tags, out of a Python file that is not run."""
    file, name = directory.parent / "configuration.py", _LABELS.get(directory.name[:3])
    for line in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(line, ast.Assign) and any(getattr(each, "id", "") == name for each in line.targets):
            return tuple(ast.literal_eval(line.value))
    raise MissingEvaluatorError(
        f"musicnn: {directory} is neither of the package's MTT_musicnn and MSD_musicnn"
    )


def _log_mel(samples: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, "frames 96"]:
    import librosa

    power = librosa.feature.melspectrogram(y=samples, sr=RATE, n_fft=_FFT, hop_length=_HOP, n_mels=_BANDS).T
    return np.log10(10_000 * power + 1).astype(np.float32)


def _patches(frames: Float32[np.ndarray, "frames 96"]) -> Float32[np.ndarray, "patches 187 96"]:
    if len(frames) < PATCH:
        frames = np.resize(frames, (PATCH, _BANDS))
    count = len(frames) // PATCH
    return frames[: count * PATCH].reshape(count, PATCH, _BANDS)


@jax.jit
def _hear(
    p: dict[str, Array], x: Float[Array, "patches 187 96"]
) -> tuple[Float[Array, "patches 200"], Float[Array, "patches 50"]]:
    """Logits, and what they are made of. Layers are numbered as TensorFlow names them."""
    x = _normalised(p, 0, x[..., None])
    timbre = [_layer(p, n, jnp.pad(x, ((0, 0), (3, 3), (0, 0), (0, 0))), "VALID").max(2) for n in (0, 1)]
    tempo = [_layer(p, n, x, "SAME").max(2) for n in (2, 3, 4)]
    front = jnp.concatenate(timbre + tempo, 2)
    first = _across(p, 5, front)
    second = _across(p, 6, first) + first
    third = _across(p, 7, second) + second
    features = jnp.concatenate([front, first, second, third], 2)
    pooled = jnp.stack([features.max(1), features.mean(1)], -1).reshape(len(x), -1)
    embedding = jax.nn.relu(_normalised(p, 9, pooled) @ p["dense/kernel"] + p["dense/bias"])
    embedding = _normalised(p, 10, embedding)
    return embedding, embedding @ p["dense_1/kernel"] + p["dense_1/bias"]


def _layer(
    p: dict[str, Array], number: int, x: Float[Array, "b t f c"], padding: str
) -> Float[Array, "b t g d"]:
    name = _numbered("conv2d", number)
    x = jax.lax.conv_general_dilated(
        x, p[f"{name}/kernel"], (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return _normalised(p, number + 1, jax.nn.relu(x + p[f"{name}/bias"]))


def _across(p: dict[str, Array], number: int, x: Float[Array, "b t f"]) -> Float[Array, "b t d"]:
    """A layer over all features of seven frames."""
    return _layer(p, number, jnp.pad(x, ((0, 0), (3, 3), (0, 0)))[..., None], "VALID")[:, :, 0]


def _normalised(p: dict[str, Array], number: int, x: Float[Array, "... width"]) -> Float[Array, "... width"]:
    name = _numbered("batch_normalization", number)
    scale = p[f"{name}/gamma"] * jax.lax.rsqrt(p[f"{name}/moving_variance"] + _EPS)
    return (x - p[f"{name}/moving_mean"]) * scale + p[f"{name}/beta"]


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name
