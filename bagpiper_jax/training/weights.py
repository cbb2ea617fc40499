"""The parameters of a checkpoint as someone wants them: on a mesh, in a precision, changed by an adapter."""

import dataclasses
import os
import types
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh, SingleDeviceSharding

from bagpiper_jax import parallel
from bagpiper_jax.models import quantized
from bagpiper_jax.models.adapters import lora
from bagpiper_jax.models.adapters.lora import AdapterError, LoraConfig
from bagpiper_jax.models.config_json import ModelConfigError, find_model_config, load_model_config
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.models.fingerprints import Fingerprint, shown
from bagpiper_jax.models.parameters import flatten, shapes_of
from bagpiper_jax.models.precision import Precision, dtype_of, is_rounded
from bagpiper_jax.models.quantized import Quantized
from bagpiper_jax.training.checkpoint_checks import CheckpointError, stored_shapes
from bagpiper_jax.training.checkpoints import find_checkpoint, restore_in_parts, restore_parameters
from bagpiper_jax.training.partition import Parameters
from bagpiper_jax.training.state import TABLES, initial_parameters, model_shapes

TOLD = "adapter"
"""What a directory's config.json calls the description of its adapter."""


def abstract_weights(config: BagpiperConfig, precision: Precision, mesh: Mesh | None) -> dict[str, Any]:
    """Shapes, dtypes and shardings by path: ShapeDtypeStructs, and `Quantized` ones where int8 is wanted.

    Args:
        mesh: None puts all on the first device.
    """
    shapes = jax.eval_shape(lambda: initial_parameters(config, 0))
    placed = _placed(shapes, mesh)

    def abstract(path: str, x: jax.ShapeDtypeStruct):
        if is_rounded(path, precision):
            stored = jax.ShapeDtypeStruct(x.shape, "float32", sharding=placed[path])
            return quantized.abstract(stored, quantized.INPUTS[path])
        return jax.ShapeDtypeStruct(x.shape, dtype_of(path, precision), sharding=placed[path])

    return {path: abstract(path, x) for path, x in shapes.items()}


def _placed(shapes: Mapping[str, Any], mesh: Mesh | None) -> dict[str, jax.sharding.Sharding]:
    if mesh is not None:
        return parallel.parameter_sharding(mesh, dict(shapes))
    return dict.fromkeys(shapes, SingleDeviceSharding(jax.local_devices()[0]))


def read_weights(
    checkpoint: str | os.PathLike,
    config: BagpiperConfig,
    precision: Precision = "float32",
    mesh: Mesh | None = None,
    base: str = "",
    merges: bool = False,
) -> Parameters:
    """The parameters of a run, an import, or one of their checkpoints; each device reads its own part.

    Of an adapter's checkpoint those of its base, and the adapter's beside them. A matrix that becomes int8 is read as
    it is stored, one after the other, so that a device needs no more than the result and the largest of them.

    Args:
        checkpoint: a directory as `checkpoints.find_checkpoint` takes it.
        config: the sizes of the model, its tables as they are stored there; an adapter's are those of its base.
        precision: of the model's matrices; an adapter's are float32.
        mesh: where all lies; None puts it on the first device.
        base: the checkpoint that an adapter changes, instead of the one that its config.json names.
        merges: adds an adapter's changes to the matrices, in float32, and leaves it out.

    Returns:
        By path.

    Raises:
        CheckpointError: a checkpoint that is missing, damaged, or of other sizes.
        AdapterError: the adapter changes another base.
    """
    root = base_of(checkpoint, base)
    if root is None:
        return _read(checkpoint, config, precision, mesh)
    adapter, fingerprint = read_adapter(checkpoint, config, mesh), Fingerprint()
    sizes = config.with_tables(load_model_config(root)[0].table_multiple)
    found = _read(root, sizes, precision, mesh, adapter if merges else {}, fingerprint)
    require_base(adapter, fingerprint.value(), checkpoint, root)
    return found if merges else found | adapter


def read_base(
    checkpoint: str | os.PathLike, config: BagpiperConfig, precision: Precision, mesh: Mesh | None
) -> Parameters:
    """The parameters that an adapter is trained on, with their fingerprint at `lora.BASE`.

    Raises:
        CheckpointError, AdapterError: as `read_weights`.
    """
    if base_of(checkpoint) is not None:
        raise AdapterError(
            f"{checkpoint} is an adapter itself; export it merged, import that, and train the next one on it"
        )
    fingerprint = Fingerprint()
    found: dict[str, Any] = _read(checkpoint, config, precision, mesh, fingerprint=fingerprint)
    return found | {lora.BASE: fingerprint.value()}


def base_of(checkpoint: str | os.PathLike, base: str = "") -> str | None:
    """Where the base of an adapter's checkpoint lies, None of one without adapter, or of parameters alone.

    Raises:
        ModelConfigError: its config.json is broken.
        CheckpointError: the base is not there.
    """
    try:
        place = find_model_config(checkpoint).parent
    except ModelConfigError:
        return None
    told = load_model_config(checkpoint)[1].get(TOLD)
    if not told:
        return None
    named = base or os.path.join(place, told["base"])
    if not epath.Path(named).exists():
        raise CheckpointError(
            f"{checkpoint} is an adapter of {named}, which is not there; name the base with WeightsConfig.base"
        )
    return named


def read_adapter(checkpoint: str | os.PathLike, config: BagpiperConfig, mesh: Mesh | None) -> Parameters:
    """The adapter in a checkpoint, with the fingerprint of its base. Raises CheckpointError, AdapterError."""
    told = flatten(stored_shapes(find_checkpoint(checkpoint) / "parameters"))
    found = {path: jax.ShapeDtypeStruct(x.shape, x.dtype) for path, x in told.items()}
    require_fit(shapes_of(found), model_shapes(config), checkpoint)
    placed = _placed(found, mesh)
    return restore_parameters(
        checkpoint, {path: x.update(sharding=placed[path]) for path, x in found.items()}
    )


def description(config: LoraConfig, base: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What the config.json of an adapter's directory tells of it, under `TOLD`.

    Args:
        config: of the adapter.
        base: the checkpoint that it changes.
        parameters: the adapter's, others may be among them.
    """
    told = dataclasses.asdict(config)
    del told["base"]
    return told | {
        "base": base if "://" in base else os.path.abspath(base),
        "base_fingerprint": shown(np.asarray(parameters[lora.BASE])),
        "attached": lora.targets_of(parameters),
    }


def require_fit(adapter: Mapping[str, tuple], model: Mapping[str, tuple], where: object) -> None:
    """Raises AdapterError unless every change of an adapter has a matrix of its size in the model.

    Args:
        adapter, model: shapes by path.
        where: what was read, as the message calls it.
    """
    targets = lora.targets_of(adapter)
    if not targets:
        raise AdapterError(f"{where} holds no adapter, though its config.json says so; bring its parameters")
    for path in targets:
        if path not in lora.ATTACHABLE or path not in model:
            raise AdapterError(f"{where} changes {path}, which this model has not; it is of another model")
        leading, inputs, outputs = lora.flat_shape(path, model[path])
        a, b, _ = lora.change_of(adapter, path)
        if a[:-1] != (*leading, inputs) or b[:-2] + b[-1:] != (*leading, outputs) or a[-1] != b[-2]:
            layers = f" in {leading[0]} layers" if leading else ""
            raise AdapterError(
                f"{where} changes {path} by {list(a)} times {list(b)}, but that has {inputs} inputs and {outputs} "
                f"outputs{layers}; it is of another model"
            )


def require_base(adapter: Mapping[str, Any], fingerprint: np.ndarray, where: object, base: object) -> None:
    """Raises AdapterError unless an adapter was trained on parameters of this fingerprint, or does not say."""
    known = np.asarray(adapter[lora.BASE])
    if known.any() and not np.array_equal(known, fingerprint):
        raise AdapterError(
            f"{where} is an adapter of another base: it was trained on parameters with the fingerprint {shown(known)}, "
            f"{base} has {shown(fingerprint)}; name the checkpoint that it was trained on"
        )


def _read(
    checkpoint: str | os.PathLike,
    config: BagpiperConfig,
    precision: Precision,
    mesh: Mesh | None,
    changes: Parameters = types.MappingProxyType({}),
    fingerprint: Fingerprint | None = None,
) -> Parameters:
    """The model's parameters with the changes of an adapter; the fingerprint is that of before."""
    kept = abstract_weights(config, precision, mesh)
    changed = lora.targets_of(changes)
    read = {path: _as_read(x, path in changed) for path, x in kept.items()}
    found: dict[str, Any] = {}
    for part in restore_in_parts(checkpoint, read, _parts(kept)):
        for path, x in part.items():
            if fingerprint:
                fingerprint.add(path, x[: config.vocabulary.size] if path in TABLES else x)
            if path in changed:
                x = jax.jit(lora.merged, out_shardings=x.sharding)(x, *lora.change_of(changes, path))
            if isinstance(kept[path], Quantized):
                found[path] = quantized.quantize(x, quantized.INPUTS[path])
            else:
                found[path] = x.astype(kept[path].dtype)
    return found


def _as_read(x: Any, changes: bool) -> jax.ShapeDtypeStruct:
    if isinstance(x, Quantized):
        return jax.ShapeDtypeStruct(x.values.shape, "float32", sharding=x.values.sharding)
    return jax.ShapeDtypeStruct(x.shape, "float32" if changes else x.dtype, sharding=x.sharding)


def _parts(kept: Mapping[str, Any]) -> list[list[str]]:
    """Those that become int8 alone, the largest first, while there is most room; then all others."""
    alone = [path for path, x in kept.items() if isinstance(x, Quantized)]
    alone.sort(key=lambda path: -kept[path].values.size)
    return [*([path] for path in alone), [path for path in kept if path not in alone]]
