"""Our checkpoints become those of others."""

import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import jax
import ml_dtypes
import numpy as np

from bagpiper_jax.interop import espnet, qwen3, tower
from bagpiper_jax.interop.importing import codec_shapes, model_shapes
from bagpiper_jax.interop.names import InterchangeError, their_shapes, to_theirs
from bagpiper_jax.interop.tensors import write_tensors
from bagpiper_jax.models.codec.storage import load_codec
from bagpiper_jax.models.config_json import load_model_config
from bagpiper_jax.models.configs import BagpiperConfig, CodecConfig
from bagpiper_jax.training.checkpoints import restore_parameters

logger = logging.getLogger(__name__)

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """What to export.

    Attributes:
        checkpoint: a training run, one of its checkpoints, or an import.
        output: file to make, .safetensors or .pt (the latter needs torch).
        format: "espnet", the whole native checkpoint with the codec; "qwen3", decoder and head as transformers'
            Qwen3ForCausalLM over the whole vocabulary; "tower", the audio tower as transformers' Qwen3-Omni.
        dtype: of all tensors but `vocab_weight`.
        codec: codec file for "espnet"; by default the one that the checkpoint names.
        list: print name, shape and dtype of every tensor of `format` for `model` and `codec_model`, write nothing.
        model, codec_model: sizes, for `list` only; a checkpoint knows its own.
    """

    checkpoint: str = ""
    output: str = ""
    format: Literal["espnet", "qwen3", "tower"] = "espnet"
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    codec: str = ""
    list: bool = False
    model: BagpiperConfig = BagpiperConfig()
    codec_model: CodecConfig = CodecConfig()

    def __post_init__(self):
        if not self.list and not (self.checkpoint and self.output):
            raise ValueError("give ExportConfig.checkpoint and ExportConfig.output, or --list")


def export_checkpoint(config: ExportConfig) -> Path:
    """Writes `output` whole or not at all, and returns it.

    Raises:
        InterchangeError: `output` exists or has another suffix, or no codec is there for "espnet".
        CheckpointError, ModelConfigError, CodecFileError: what is read is missing or damaged.
    """
    model, extras = load_model_config(config.checkpoint)
    tensors = _tensors(config, model, extras)
    dtype = DTYPES[config.dtype]
    write_tensors(
        config.output, ((n, x if n == espnet.VOCAB_WEIGHT else x.astype(dtype)) for n, x in tensors)
    )
    logger.info("%s: %s of %s, %s", config.output, config.format, config.checkpoint, config.dtype)
    return Path(config.output)


def _tensors(config: ExportConfig, model: BagpiperConfig, extras: dict) -> Iterator[tuple[str, np.ndarray]]:
    shapes = model_shapes(model)
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = {n: jax.ShapeDtypeStruct(shape, np.float32, sharding=sharding) for n, shape in shapes.items()}
    parameters = jax.device_get(restore_parameters(config.checkpoint, like))
    if config.format == "qwen3":
        return to_theirs(qwen3.entries(shapes), parameters)
    if config.format == "tower":
        return to_theirs(tower.entries(shapes), parameters)
    codec, codec_config = load_codec(_codec_file(config, extras))
    parameters |= {espnet.CODEC + name: x for name, x in codec.items()}
    return espnet.export(parameters, codec_config, model.vocabulary)


def _codec_file(config: ExportConfig, extras: dict) -> str:
    named = config.codec or extras.get("codec") or ""
    if not named:
        raise InterchangeError("the native checkpoint contains the codec; give ExportConfig.codec")
    beside = Path(config.checkpoint) / named
    return str(beside if beside.is_file() else named)


def list_tensors(config: ExportConfig) -> Iterator[str]:
    """One JSON object {"name", "shape", "dtype"} for each tensor of a format; nothing is allocated."""
    ours = model_shapes(config.model) | codec_shapes(config.codec_model)
    if config.format == "espnet":
        shapes = espnet.their_shapes(ours, config.codec_model, config.model.vocabulary)
    else:
        shapes = their_shapes({"qwen3": qwen3, "tower": tower}[config.format].entries(ours), ours)
    for name, shape in shapes.items():
        dtype = "float32" if name == espnet.VOCAB_WEIGHT else config.dtype
        yield json.dumps({"name": name, "shape": list(shape), "dtype": dtype})
