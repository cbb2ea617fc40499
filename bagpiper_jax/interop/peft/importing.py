"""PEFT's adapters become ours."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

from bagpiper_jax import digests, files
from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.interop.formats import safetensors_file
from bagpiper_jax.interop.formats.opening import open_tensors
from bagpiper_jax.interop.formats.tensors import Tensors, require_floats
from bagpiper_jax.interop.formats.verification import require_finite
from bagpiper_jax.interop.hub import model_card
from bagpiper_jax.interop.merging import stored_fingerprint
from bagpiper_jax.interop.partial import rename, replacing
from bagpiper_jax.interop.peft import config as peft_config
from bagpiper_jax.interop.peft.config import FINGERPRINT, WEIGHTS, PeftConfig
from bagpiper_jax.interop.stored_parameters import open_model
from bagpiper_jax.interop.tables import peft as table
from bagpiper_jax.interop.tables.grammar import Entry
from bagpiper_jax.models.adapters import lora
from bagpiper_jax.models.config_json import load_model_config, save_model_config
from bagpiper_jax.models.fingerprints import shown
from bagpiper_jax.models.parameters import Shapes, unflatten
from bagpiper_jax.training import companions
from bagpiper_jax.training.checkpoint_checks import require_plain
from bagpiper_jax.training.state import model_shapes
from bagpiper_jax.training.weights import TOLD, base_of, require_base

logger = logging.getLogger(__name__)


def import_adapter(source: str, base: str, output: Path) -> Path:
    """Writes an adapter of ours, which generation and export take as they take a run. Returns its directory.

    Changes of several ranks are stored with the largest of them, filled up with zeros; modules of some layers that have
    no change have one of zeros.

    Args:
        source: a directory with adapter_config.json and adapter_model.safetensors, under PEFT's prefix or vLLM's.
        base: the checkpoint of ours that it changes.
        output: the directory to make.

    Raises:
        InterchangeError: `output` exists, or what is read is no plain LoRA of the base's decoder, adaptor and streams.
        AdapterError: the file says that it changes another base.
        CheckpointError, ModelConfigError: there is no base.
    """
    if output.exists():
        raise InterchangeError(f"{output} exists; remove it or choose another output")
    require_plain(output)
    if base_of(base) is not None:
        raise InterchangeError(f"{base} is an adapter itself; name the checkpoint that both change")
    model, extras = load_model_config(base)
    config = peft_config.read(Path(source))
    tensors = open_tensors(Path(source) / WEIGHTS)
    shapes = model_shapes(model)
    adapter = _adapter(tensors, config, shapes, source)
    fingerprint = stored_fingerprint(open_model(base, shapes), model)
    known = safetensors_file.metadata(Path(source) / WEIGHTS).get(FINGERPRINT, "")
    if known and known != shown(fingerprint):
        require_base({lora.BASE: np.frombuffer(bytes.fromhex(known), ">u4")}, fingerprint, source, base)
    told = {
        "base": str(Path(base).absolute()),
        "base_fingerprint": shown(fingerprint),
        "attached": lora.targets_of(adapter),
        "alpha": config.alpha,
        "rank_stabilised": config.rank_stabilised,
        "dropout": config.dropout,
    }
    with replacing(output) as partial:
        made = partial / output.name
        kept = companions.keep(
            made,
            companions.find(base, extras, "tokenizer") or None,
            companions.find(base, extras, "codec") or None,
        )
        others = {name: extras[name] for name in ("stage", "system_prompt") if name in extras}
        save_model_config(
            made, model, imported_from={"peft": model_card.name_of(source)}, **{TOLD: told}, **others, **kept
        )
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_compression=False)) as checkpointer:
            tree = unflatten(adapter | {lora.BASE: fingerprint})
            checkpointer.save(made.absolute() / "parameters", args=ocp.args.PyTreeSave(tree))
        digests.write(made)
        files.synchronize(partial)
        rename(made, output)
    logger.info("%s: an adapter of %s", output, base)
    return output


def _adapter(tensors: Tensors, config: PeftConfig, model: Shapes, where: str) -> dict[str, np.ndarray]:
    """Our parameters of all tensors. Raises InterchangeError."""
    _require_changes(tensors, where)
    require_floats(tensors, where)
    named = {table.module_of(name) + name[name.index(".lora_") :]: tensor for name, tensor in tensors.items()}
    if len(named) != len(tensors):
        raise InterchangeError(f"{where} names a module twice, under two prefixes")
    entries = _entries(model)
    if unknown := sorted(named.keys() - entries.keys()):
        raise InterchangeError(
            f"{where} changes what the base has not, or what takes no adapter here: {', '.join(unknown[:6])}; "
            "it is of another model, or was trained with other target_modules"
        )
    rank = max(config.rank_of(table.module_of(name)) for name in named)
    found: dict[str, np.ndarray] = {}
    for name, tensor in named.items():
        entry = entries[name]
        _place(found, entry, _read(name, tensor.read(), entry, config, where), model, rank)
        scale = found[lora.SCALE + table.path_of(entry)]
        scale[entry.index if entry.index is not None else ()] = config.scale_of(table.module_of(name))
    _require_pairs(named, where)
    return found


def _entries(model: Shapes) -> dict[str, Entry]:
    """Their names, without a prefix → what they are of ours, of all that could have a change, as if of rank 1."""
    possible = {}
    for path in lora.ATTACHABLE:
        leading, inputs, outputs = lora.flat_shape(path, tuple(model[path]))
        possible[f"{lora.TRAINED}{path}/a"] = (*leading, inputs, 1)
        possible[f"{lora.TRAINED}{path}/b"] = (*leading, 1, outputs)
    prefix = table.PREFIXES["native"]
    return {entry.theirs.removeprefix(prefix): entry for entry in table.entries(possible)}


def _read(name: str, values: np.ndarray, entry: Entry, config: PeftConfig, where: str) -> np.ndarray:
    """A tensor as [inputs, r] or [r, outputs], float32. Raises InterchangeError: it has another shape or rank."""
    require_finite(name, values)
    rank, is_a = config.rank_of(table.module_of(name)), entry.ours.endswith("/a")
    length = entry.shape[0 if is_a else 1]
    expected = (rank, length) if is_a else (length, rank)
    if values.shape != expected:
        raise InterchangeError(
            f"{where}: {name} is {list(values.shape)}, should be {list(expected)}; it is of another model, or its "
            "adapter_config.json of another adapter"
        )
    return np.ascontiguousarray(values.T, np.float32)


def _place(found: dict[str, np.ndarray], entry: Entry, values: np.ndarray, model: Shapes, rank: int) -> None:
    """Puts a tensor into our parameter, made of zeros where it is the first of it."""
    path = table.path_of(entry)
    if lora.SCALE + path not in found:
        leading, inputs, outputs = lora.flat_shape(path, tuple(model[path]))
        found[f"{lora.TRAINED}{path}/a"] = np.zeros((*leading, inputs, rank), np.float32)
        found[f"{lora.TRAINED}{path}/b"] = np.zeros((*leading, rank, outputs), np.float32)
        found[lora.SCALE + path] = np.zeros(leading, np.float32)
    into = found[entry.ours]
    into = into if entry.index is None else into[entry.index]
    into[: values.shape[0], : values.shape[1]] = values


def _require_changes(names: Mapping[str, object], where: str) -> None:
    others = sorted(
        name for name in names if ".lora_A" not in name and ".lora_B" not in name and ".lora_e" not in name
    )
    if others:
        raise InterchangeError(
            f"{where} holds whole parameters beside its changes: {', '.join(others[:6])}. An adapter with a full head "
            "or embedding, as PEFT stores it where the vocabulary was resized, is no change of low rank: train it "
            "without modules_to_save and save_embedding_layers, or import the merged model"
        )


def _require_pairs(named: Mapping[str, object], where: str) -> None:
    for name in named:
        other = name.replace("_A", "_B") if "_A" in name else name.replace("_B", "_A")
        if other not in named:
            raise InterchangeError(f"{where} has {name} without {other}; the file is not whole")
