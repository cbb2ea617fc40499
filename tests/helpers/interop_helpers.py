"""A tiny model with codec as others would hand it over: random native tensors, imports and exports of them."""

import dataclasses

import ml_dtypes
import numpy as np
import tiny_models
from safetensors.numpy import save_file

from bagpiper_jax.interop.export_config import ExportConfig
from bagpiper_jax.interop.exporting import export_checkpoint
from bagpiper_jax.interop.importing import ImportConfig, codec_shapes, import_checkpoint
from bagpiper_jax.interop.tables import espnet
from bagpiper_jax.models.configs import BagpiperConfig, CodecConfig, SemanticEncoderConfig
from bagpiper_jax.training.state import model_shapes
from bagpiper_jax.vocabulary import Vocabulary

MODEL = dataclasses.replace(tiny_models.MODEL, vocabulary=Vocabulary(text_size=300, codebook_size=8))
CODEC = CodecConfig(
    encoder_width=2, decoder_width=32, acoustic_width=4, codebook_size=8, codebook_width=20,
    semantic=SemanticEncoderConfig(
        width=16, layers=2, heads=2, ffn_width=24, conv_widths=(8,) * 7, positional_kernel=8, positional_groups=2
    ),
)  # fmt: skip
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def native_tensors(model: BagpiperConfig = MODEL, seed: int = 0) -> dict[str, np.ndarray]:
    """A random float32 native state dict."""
    random = np.random.default_rng(seed)
    shapes = espnet.their_shapes({**model_shapes(model), **codec_shapes(CODEC)}, CODEC, model.vocabulary)
    tensors = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return tensors | {espnet.VOCAB_WEIGHT: espnet.class_weights(model.vocabulary)}


def halved(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As base.pt stores them: bfloat16, but for the class weights."""
    return {name: x if name == espnet.VOCAB_WEIGHT else x.astype(BFLOAT16) for name, x in tensors.items()}


def save_native(path, tensors: dict[str, np.ndarray], wrapped: bool = True):
    """Written by torch or by safetensors themselves."""
    if path.suffix == ".safetensors":
        save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, path)
        return path
    import torch

    def convert(x):
        half = x.dtype == BFLOAT16
        tensor = torch.from_numpy(np.array(x.view(np.int16) if half else x))
        return tensor.view(torch.bfloat16) if half else tensor

    content = {name: convert(x) for name, x in tensors.items()}
    torch.save({"module": content} if wrapped else content, path)
    return path


def importing(output, **settings):
    """Imports with the tiny sizes."""
    given = {
        name: str(x) if name in ("espnet", "qwen3", "tower", "xcodec") else x for name, x in settings.items()
    }
    return import_checkpoint(ImportConfig(str(output), **{"model": MODEL, "codec": CODEC} | given))


def exporting(checkpoint, output, format="espnet", dtype="same", **settings):
    return export_checkpoint(ExportConfig(str(checkpoint), str(output), format, dtype, **settings))


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Same names, types and bits."""
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        assert found[name].dtype == x.dtype, name
        assert found[name].shape == x.shape and found[name].tobytes() == x.tobytes(), name
