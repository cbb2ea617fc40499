"""Our adapters become PEFT's."""

import json
import logging
import os
from pathlib import Path

import numpy as np

from bagpiper_jax import files
from bagpiper_jax.interop.export_config import ExportConfig
from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.interop.formats import safetensors_file
from bagpiper_jax.interop.formats.tensors import FLOATS
from bagpiper_jax.interop.hub import model_card
from bagpiper_jax.interop.partial import rename, replacing
from bagpiper_jax.interop.peft.config import CONFIG, FINGERPRINT, WEIGHTS, PeftConfig, content
from bagpiper_jax.interop.tables import peft as table
from bagpiper_jax.interop.tables.grammar import to_theirs
from bagpiper_jax.models.adapters import lora
from bagpiper_jax.models.config_json import load_model_config
from bagpiper_jax.models.fingerprints import shown
from bagpiper_jax.models.parameters import Parameters, shapes_of
from bagpiper_jax.training.weights import TOLD, read_adapter

logger = logging.getLogger(__name__)


def export_adapter(config: ExportConfig) -> Path:
    """Writes the adapter of a run as a directory that PEFT opens, whole or not at all, and returns it.

    Raises:
        InterchangeError: `output` exists, the checkpoint has no adapter, or one that vLLM has no names for.
        CheckpointError, AdapterError, ModelConfigError: what is read is missing or damaged.
    """
    output = Path(config.output).absolute()
    if os.path.lexists(output):
        raise InterchangeError(f"{output} exists; remove it or choose another name")
    model, extras = load_model_config(config.checkpoint)
    if not (told := extras.get(TOLD)):
        raise InterchangeError(
            f"{config.checkpoint} has no adapter; choose another format, or train it with TrainConfig.adapter"
        )
    adapter = {path: np.asarray(x) for path, x in read_adapter(config.checkpoint, model, None).items()}
    beside = [path for path in lora.targets_of(adapter) if not path.startswith("decoder/")]
    if config.prefix == "vllm" and beside:
        raise InterchangeError(f"vLLM takes changes of the decoder alone, not of {', '.join(beside)}")
    tensors = dict(to_theirs(table.entries(shapes_of(adapter), config.prefix), adapter))
    dtype = FLOATS["float32" if config.dtype in ("usual", "same") else config.dtype]
    settings = _settings(adapter, told)
    modules = [table.module_of(name) for name in tensors]
    base = config.base_model or model_card.name_of(told["base"])
    described = content(settings, modules, base, anchored=config.prefix == "native")
    with replacing(output) as partial:
        made = partial / output.name
        made.mkdir()
        (made / CONFIG).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        plan = {name: (x.shape, dtype) for name, x in tensors.items()}
        about = {FINGERPRINT: shown(adapter[lora.BASE])} if adapter[lora.BASE].any() else {}
        writer = safetensors_file.File(made / WEIGHTS, plan, about)
        for name, x in tensors.items():
            writer.write(name, x.astype(dtype))
        writer.close()
        card = model_card.text(config, model, None, extras)
        (made / "README.md").write_text(card, encoding="utf-8")
        files.synchronize(partial)
        rename(made, output)
    logger.info("%s: a PEFT adapter of rank %d on %s", output, settings.rank, base)
    return output


def _settings(adapter: Parameters, told: dict) -> PeftConfig:
    """Rank and alpha that give every change its scale; those of modules that differ are named by patterns."""
    first = lora.targets_of(adapter)[0]
    rank, root = adapter[f"{lora.TRAINED}{first}/a"].shape[-1], bool(told.get("rank_stabilised"))
    alpha = float(told["alpha"])
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    for entry in table.entries(shapes_of(adapter)):
        if not entry.ours.endswith("/a"):
            continue
        module, path = table.module_of(entry.theirs), table.path_of(entry)
        own = adapter[entry.ours].shape[-1]
        scale = np.float32(adapter[lora.SCALE + path][entry.index if entry.index is not None else ()])
        if own != rank:
            ranks[module] = own
        if scale != np.float32(lora.scale_of(own, alpha, root)):
            alphas[module] = float(scale) / lora.scale_of(own, 1.0, root)
    return PeftConfig(rank, alpha, root, float(told.get("dropout", 0.0)), ranks, alphas)
