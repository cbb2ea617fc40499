"""Our checkpoints become those of others, tensor by tensor."""

import dataclasses
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from bagpiper_jax import files
from bagpiper_jax.interop.export_config import ExportConfig
from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.interop.formats import orbax_store, safetensors_file, torch_file
from bagpiper_jax.interop.formats.tensors import FLOATS, Plan
from bagpiper_jax.interop.hub import directories, model_card
from bagpiper_jax.interop.importing import codec_shapes
from bagpiper_jax.interop.merging import open_merged
from bagpiper_jax.interop.partial import rename, replacing
from bagpiper_jax.interop.peft.exporting import export_adapter
from bagpiper_jax.interop.prefetching import prefetched
from bagpiper_jax.interop.progress import ByteProgress
from bagpiper_jax.interop.stored_parameters import Parameter, open_codec
from bagpiper_jax.interop.tables import espnet, qwen3, tower, xcodec
from bagpiper_jax.interop.tables.grammar import Entry, their_shapes
from bagpiper_jax.models.config_json import load_model_config
from bagpiper_jax.models.configs import BagpiperConfig, CodecConfig
from bagpiper_jax.models.parameters import Shapes
from bagpiper_jax.training import companions
from bagpiper_jax.training.state import TABLES, model_shapes

logger = logging.getLogger(__name__)

WITH_CODEC = ("espnet", "vllm", "xcodec")
WITH_TOKENIZER = ("vllm", "qwen3")


class Writer(Protocol):
    """Takes the parts of each tensor in order, one tensor after the other."""

    def write(self, name: str, part: np.ndarray) -> None: ...
    def close(self) -> None: ...


def export_checkpoint(config: ExportConfig) -> Path:
    """Writes `output` whole or not at all, and returns it. A card tells where it comes from: README.md in a
    directory, `<output>.md` beside a native checkpoint.

    Tables pass through memory in parts of 32 MiB, stacked parameters by as many layers as are stored together: one
    for imports, all of them for checkpoints of a run.

    Raises:
        InterchangeError: `output` exists, the disk is too small, or there is no codec or tokenizer that is needed.
        CheckpointError, ModelConfigError, CodecFileError: what is read is missing or damaged.
        AdapterError: an adapter whose base is another one.
    """
    if config.format == "peft":
        return export_adapter(config)
    output = Path(config.output).absolute()
    card = card_of(output)
    if os.path.lexists(output):
        raise InterchangeError(f"{output} exists; remove it or choose another name")
    if config.format == "espnet" and card.exists() and not model_card.is_ours(card):
        raise InterchangeError(f"{card} exists, where the card would be; move it or choose another name")
    model, extras = load_model_config(config.checkpoint)
    ours, codec = _open(config, model, extras)
    table, plan = _plan(config, ours, model, codec)
    orbax_store.require_space(output, _bytes(plan))
    try:
        with replacing(output) as partial:
            made = partial / output.name
            _write(config, made, ours, (table, plan), model, codec, extras)
            about = partial / card.name if config.format == "espnet" else made / "README.md"
            told = {name: value for name, value in extras.items() if name != "digests"}
            about.write_text(model_card.text(config, model, codec, told), encoding="utf-8")
            files.synchronize(partial)
            if config.format == "espnet":  # the card first: once the file is there, so is its card
                os.replace(about, card)
            rename(made, output)
    except OSError as error:
        raise InterchangeError(
            f"cannot write {output}: {error}. Nothing of it is left; free space or permissions, then run it again"
        ) from error
    logger.info("%s: %s of %s, %s", output, config.format, config.checkpoint, config.stored_dtype)
    return output


def card_of(output: Path) -> Path:
    """Where the card of a native file is; a directory has its README.md."""
    return output.with_name(output.name + ".md")


def _write(config: ExportConfig, made: Path, ours, tensors, model, codec, extras) -> None:
    table, plan = tensors
    writer = _writer(config, made, plan, model, codec, extras)
    with ByteProgress(_bytes(plan), made.name) as progress:
        for name, part in _parts(table, ours, plan):
            writer.write(name, part)
            progress.add(part.nbytes)
        if espnet.VOCAB_WEIGHT in plan:
            writer.write(espnet.VOCAB_WEIGHT, espnet.class_weights(model.vocabulary))
    writer.close()


def _open(
    config: ExportConfig, model: BagpiperConfig, extras: dict
) -> tuple[dict[str, Parameter], CodecConfig]:
    """Our parameters that the format needs, and the codec's sizes."""
    ours = {} if config.format == "xcodec" else _without_padding(config, model)
    if config.format not in WITH_CODEC:
        return ours, CodecConfig()
    codec, sizes = open_codec(_codec_file(config, extras))
    return {**ours, **{espnet.CODEC + name: parameter for name, parameter in codec.items()}}, sizes


def _without_padding(config: ExportConfig, model: BagpiperConfig) -> dict[str, Parameter]:
    """The model's parameters, of their tables only the vocabulary's rows."""
    stored = open_merged(config.checkpoint, model, config.base)
    rows = {name: model.vocabulary.size for name in TABLES}
    return {
        name: dataclasses.replace(part, shape=(rows[name], *part.shape[1:])) if name in rows else part
        for name, part in stored.items()
    }


def _codec_file(config: ExportConfig, extras: dict) -> str:
    if config.codec:
        beside = Path(config.checkpoint) / config.codec
        return str(beside if beside.is_file() else config.codec)
    kept = companions.find(config.checkpoint, extras, "codec")
    if not kept:
        raise InterchangeError(f"{config.format} contains the codec; give ExportConfig.codec")
    return kept


def entries_of(format: str, ours: Shapes, codec: CodecConfig) -> list[Entry]:
    """The name table of a format, applied to a model of these shapes (the codec's under `espnet.CODEC`)."""
    if format == "xcodec":
        return [dataclasses.replace(e, ours=espnet.CODEC + e.ours) for e in xcodec.entries(codec)]
    if format in ("espnet", "vllm"):
        return espnet.entries(ours, codec)
    return {"qwen3": qwen3, "tower": tower}[format].entries(ours)


def _plan(
    config: ExportConfig, ours: Mapping[str, Parameter], model: BagpiperConfig, codec: CodecConfig
) -> tuple[list[Entry], Plan]:
    shapes = {name: parameter.shape for name, parameter in ours.items()}
    table = entries_of(config.format, shapes, codec)
    theirs = their_shapes(table, shapes)
    plan = {e.theirs: (theirs[e.theirs], _dtype(config, ours[e.ours].dtype)) for e in table}
    if config.format == "espnet":
        plan[espnet.VOCAB_WEIGHT] = ((model.vocabulary.size,), FLOATS["float32"])
    return table, plan


def _dtype(config: ExportConfig, stored: np.dtype) -> np.dtype:
    return stored if config.stored_dtype == "same" else FLOATS[config.stored_dtype]


def _parts(table: list[Entry], ours: Mapping[str, Parameter], plan: Plan) -> Iterator[tuple[str, np.ndarray]]:
    """Name and consecutive parts of every tensor; our parameters are each read once."""
    groups: dict[str, dict[int | None, Entry]] = {}
    for entry in table:
        groups.setdefault(entry.ours, {})[entry.index] = entry
    bands = [(name, *band) for name, group in groups.items() for band in _bands(ours[name], group)]

    def theirs(band: tuple[str, int, int]) -> list[tuple[str, np.ndarray]]:
        name, start, stop = band
        values, group = ours[name].read(start, stop), groups[name]
        found = (
            [(group[None], values)]
            if None in group
            else [(group[i], values[i - start]) for i in range(start, stop)]
        )
        return [(e.theirs, np.ascontiguousarray(e.to_theirs(part), plan[e.theirs][1])) for e, part in found]

    def size(band: tuple[str, int, int]) -> int:
        name, start, stop = band
        return (stop - start) * math.prod(ours[name].shape[1:]) * ours[name].dtype.itemsize

    for parts in prefetched(theirs, bands, size):
        yield from parts


def _bands(parameter: Parameter, group: Mapping[int | None, Entry]) -> list[tuple[int, int]]:
    """What of a parameter is read at once: all of it if it becomes one tensor of another layout."""
    whole = None in group and group[None].layout != "same"
    return parameter.bands(parameter.shape[0] if whole else None)


def _writer(
    config: ExportConfig, made: Path, plan: Plan, model: BagpiperConfig, codec: CodecConfig, extras: dict
) -> Writer:
    if config.format == "espnet":
        kind = torch_file.File if Path(config.output).suffix == ".pt" else safetensors_file.File
        return kind(made, plan)
    made.mkdir()
    dtype = str(next(iter(plan.values()))[1])
    directories.describe(made, config.format, model, codec, dtype)
    if config.format in WITH_TOKENIZER:
        kept = companions.find(config.checkpoint, extras, "tokenizer")
        spec = config.tokenizer or kept or "byte"
        directories.write_tokenizer(made, spec, Path(config.checkpoint), model)
    return safetensors_file.Shards(made, plan)


def _bytes(plan: Plan) -> int:
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype in plan.values())


def list_tensors(config: ExportConfig) -> Iterator[str]:
    """One JSON object {"name", "shape", "dtype"} for each tensor of a format; nothing is allocated."""
    ours = {**model_shapes(config.model.with_tables(1)), **codec_shapes(config.codec_model)}
    shapes = their_shapes(entries_of(config.format, ours, config.codec_model), ours)
    if config.format == "espnet":
        shapes[espnet.VOCAB_WEIGHT] = (config.model.vocabulary.size,)
    for name, shape in shapes.items():
        keeps = name == espnet.VOCAB_WEIGHT or config.stored_dtype == "same"
        dtype = "float32" if keeps else config.stored_dtype
        yield json.dumps({"name": name, "shape": list(shape), "dtype": dtype})
