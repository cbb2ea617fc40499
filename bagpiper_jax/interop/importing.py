"""Checkpoints of others become a starting point of ours."""

import dataclasses
import logging
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from bagpiper_jax.interop import espnet, qwen3, tower
from bagpiper_jax.interop.names import InterchangeError, Shapes, count
from bagpiper_jax.interop.tensors import open_tensors
from bagpiper_jax.models.codec import functional as codec_functional
from bagpiper_jax.models.codec.storage import save_codec
from bagpiper_jax.models.config_json import save_model_config
from bagpiper_jax.models.configs import BagpiperConfig, CodecConfig
from bagpiper_jax.training.state import initial_parameters, unflatten

logger = logging.getLogger(__name__)

CODEC_FILE = "codec.safetensors"


@dataclasses.dataclass(frozen=True)
class ImportConfig:
    """What to import; give `espnet`, or one or both of `qwen3` and `tower`.

    Attributes:
        output: directory to make; `TrainConfig.init_from`, generation and export take it.
        model, codec: sizes of the checkpoint.
        espnet: a native checkpoint of the whole model with its codec: .pt, .safetensors or a directory of shards.
        qwen3: a text-only Qwen3 for the decoder; the new vocabulary rows are drawn as the reference does.
        tower: a checkpoint that holds a Qwen3-Omni audio tower, whose other tensors are not read.
        tokenizer: tokenizer spec stored in the result's config.json.
        seed: of whatever no checkpoint gives.
    """

    output: str
    model: BagpiperConfig = BagpiperConfig()
    codec: CodecConfig = CodecConfig()
    espnet: str | None = None
    qwen3: str | None = None
    tower: str | None = None
    tokenizer: str = "byte"
    seed: int = 0

    def __post_init__(self):
        if bool(self.espnet) == bool(self.qwen3 or self.tower):
            raise ValueError("give ImportConfig.espnet, or else one or both of .qwen3 and .tower")


def import_checkpoint(config: ImportConfig) -> Path:
    """Writes `<output>/parameters`, config.json and, from ESPnet, the codec. Returns the directory.

    Raises:
        InterchangeError: `output` exists, or tensors are missing, unknown or misshapen; nothing is written then.
    """
    output = Path(config.output).absolute()
    if output.exists():
        raise InterchangeError(f"{output} exists; remove it or choose another output")
    parameters = _whole(config) if config.espnet else _parts(config)
    codec = {n.removeprefix(espnet.CODEC): x for n, x in parameters.items() if n.startswith(espnet.CODEC)}
    model = {name: x for name, x in parameters.items() if not name.startswith(espnet.CODEC)}
    # Complete or not there: a name of its own until everything is written.
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    if codec:
        save_codec(partial / CODEC_FILE, codec, config.codec, {"imported_from": str(config.espnet)})
    extras = {"codec": CODEC_FILE} if codec else {}
    save_model_config(partial, config.model, tokenizer=config.tokenizer, **extras)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(partial / "parameters", unflatten(model))
    os.replace(partial, output)
    logger.info("%s: %d parameters", output, count({name: x.shape for name, x in model.items()}))
    return output


def _whole(config: ImportConfig) -> dict[str, np.ndarray]:
    ours = model_shapes(config.model) | codec_shapes(config.codec)
    tensors = open_tensors(config.espnet)
    return espnet.import_all(tensors, ours, config.codec, config.model.vocabulary, config.espnet)


def _parts(config: ImportConfig) -> dict[str, np.ndarray]:
    fresh = jax.device_get(jax.jit(lambda: initial_parameters(config.model, config.seed))())
    parameters = dict(fresh)
    if config.qwen3:
        backbone = open_tensors(config.qwen3)
        parameters |= qwen3.import_backbone(backbone, fresh, config.model.vocabulary, config.qwen3)
    if config.tower:
        shapes = {name: x.shape for name, x in fresh.items()}
        parameters |= tower.import_tower(open_tensors(config.tower), shapes, config.tower)
    given = [n for n in ("qwen3", "tower") if getattr(config, n)]
    logger.info(
        "from %s: the rest of the model is newly initialised (seed %d)", " and ".join(given), config.seed
    )
    return parameters


def model_shapes(config: BagpiperConfig) -> Shapes:
    """Path and shape of every parameter of the model; nothing is allocated."""
    abstract = jax.eval_shape(lambda: initial_parameters(config, 0))
    return {name: x.shape for name, x in abstract.items()}


def codec_shapes(config: CodecConfig) -> Shapes:
    """The same of the codec, under `espnet.CODEC`."""
    return {espnet.CODEC + name: x.shape for name, x in codec_functional.shapes(config).items()}
