"""Checkpoints of others become a starting point of ours."""

import dataclasses
import logging
import os
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Literal

from bagpiper_jax import digests, files
from bagpiper_jax.interop import fillings, sources
from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.interop.fillings import Fillings
from bagpiper_jax.interop.formats import orbax_store, verification
from bagpiper_jax.interop.formats.opening import open_tensors, source_files
from bagpiper_jax.interop.formats.tensors import Tensors
from bagpiper_jax.interop.hub import model_card
from bagpiper_jax.interop.hub import sizes as hub_sizes
from bagpiper_jax.interop.partial import partial_of
from bagpiper_jax.interop.peft.importing import import_adapter
from bagpiper_jax.interop.stored_parameters import OnDemand
from bagpiper_jax.interop.tables import espnet, tower
from bagpiper_jax.interop.tables.grammar import count
from bagpiper_jax.interop.writing import total_bytes, write_parameters
from bagpiper_jax.interop.written_parts import FILE as JOURNAL
from bagpiper_jax.interop.written_parts import WrittenParts
from bagpiper_jax.models.codecs.xcodec import functional as codec_functional
from bagpiper_jax.models.codecs.xcodec.storage import save_codec
from bagpiper_jax.models.config_json import save_model_config
from bagpiper_jax.models.configs import BagpiperConfig, CodecConfig
from bagpiper_jax.models.parameters import Shapes
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.text import load_tokenizer
from bagpiper_jax.training import companions
from bagpiper_jax.training.checkpoint_checks import require_plain
from bagpiper_jax.training.state import model_shapes

logger = logging.getLogger(__name__)

CODEC_FILE, TOKENIZER_FILE = companions.CODEC, companions.TOKENIZER


@dataclasses.dataclass(frozen=True)
class ImportConfig:
    """What to import; give `espnet`, or any of `qwen3`, `tower` and `xcodec`, or `peft` and `base`.

    Attributes:
        output: directory to make; `TrainConfig.init_from`, generation and export take it.
        model, codec: sizes of the checkpoint.
        espnet: a checkpoint of the whole model: ESPnet's native .pt, the same as .safetensors, or a vLLM directory.
        qwen3: a text-only Qwen3 for the decoder; the new vocabulary rows are drawn as the reference does.
        tower: a checkpoint that holds a Qwen3-Omni audio tower, whose other tensors are not read.
        xcodec: the codec as the hub has it.
        peft: a LoRA adapter as PEFT writes it, a directory.
        base: the run or import that the adapter changes; sizes, tokenizer and codec are taken from it.
        dtype: what the model's parameters are stored as; "same" keeps the type of every one. The codec keeps its own.
        mesh: the devices that the parameters are cut for; any others can read them too.
        tokenizer: "byte", a tokenizer.json, or a directory with one, which is copied into the result; by default the
            one in the directory of `espnet` or `qwen3`, or else "byte".
        seed: of whatever no checkpoint gives.
        stage: how the checkpoint was trained last, "pretrain" or "sft", which nothing in it tells: a tuned model writes
            before it sounds. "" leaves it open, which is asked as a pretrained one.
    """

    output: str
    model: BagpiperConfig = BagpiperConfig()
    codec: CodecConfig = CodecConfig()
    espnet: str | None = None
    qwen3: str | None = None
    tower: str | None = None
    xcodec: str | None = None
    peft: str | None = None
    base: str | None = None
    dtype: Literal["same", "float32", "bfloat16"] = "same"
    mesh: MeshConfig = MeshConfig()
    tokenizer: str = ""
    seed: int = 0
    stage: Literal["", "pretrain", "sft"] = ""

    def __post_init__(self):
        if bool(self.peft) != bool(self.base) or self.peft and self.sources:
            raise ValueError(
                "give ImportConfig.peft and ImportConfig.base, and nothing else to import beside them"
            )
        if not self.peft and bool(self.espnet) == bool(self.qwen3 or self.tower or self.xcodec):
            raise ValueError("give ImportConfig.espnet, or else any of .qwen3, .tower and .xcodec")

    @property
    def sources(self) -> dict[str, str]:
        """The checkpoints given, by the name of their setting."""
        given = {name: getattr(self, name) for name in ("espnet", "qwen3", "tower", "xcodec")}
        return {name: path for name, path in given.items() if path}


def with_sizes_of_sources(config: ImportConfig, bound: Container[str]) -> ImportConfig:
    """The import with the sizes that its sources' config.json tell, but for those that are bound.

    Raises:
        InterchangeError: a config.json that is broken or describes no model.
    """
    model, codec = hub_sizes.completed(config.sources, config.model, config.codec, bound)
    return dataclasses.replace(config, model=model, codec=codec)


def import_checkpoint(config: ImportConfig) -> Path:
    """Writes `<output>/parameters`, config.json and the codec, if there is one. Returns the directory.

    A few parts of 32 MiB, or of one layer of one parameter where that is more, are in memory at once. After a crash or
    a kill the same command continues: parts that are on disk with their checksum are kept. Until it is complete the
    result is called `<output>.partial`.

    Raises:
        CheckpointError: `output` has a name that Orbax cannot write to.
        InterchangeError: `output` exists, something does not fit the disk, or tensors are missing, unknown or
            misshapen; nothing is written then.
        TokenizerError: the tokenizer is absent or broken.
    """
    output = Path(config.output).absolute()
    if config.peft and config.base:
        return import_adapter(config.peft, config.base, output)
    if output.exists():
        raise InterchangeError(f"{output} exists; remove it or choose another output")
    require_plain(output)
    config = dataclasses.replace(config, model=config.model.with_tables(1))
    shapes = model_shapes(config.model)
    opened = {
        name: open_tensors(path, tower.select if name == "tower" else set)
        for name, path in config.sources.items()
    }
    parameters, codec = _fillings(config, shapes, opened)
    tokenizer = _tokenizer(config)
    partial = partial_of(output)
    _require_space(output, shapes, parameters)
    verification.verify(tensor.file for tensors in opened.values() for tensor in tensors.values())
    journal = WrittenParts(partial, _job(config))
    if codec and not (partial / CODEC_FILE).exists():
        _write_codec(partial / CODEC_FILE, codec, config)
    kept = companions.keep(partial, tokenizer, str(partial / CODEC_FILE) if codec else None)
    imported_from = {name: model_card.name_of(path) for name, path in config.sources.items()}
    save_model_config(
        partial,
        config.model,
        imported_from=imported_from,
        seed=config.seed,
        **({"stage": config.stage} if config.stage else {}),
        **kept,
    )
    write_parameters(partial / "parameters", shapes, parameters, config.mesh, journal)
    digests.write(partial, without=[JOURNAL])
    files.synchronize(partial)
    journal.finish()
    os.replace(partial, output)
    logger.info("%s: %d parameters", output, count(shapes))
    return output


def _tokenizer(config: ImportConfig) -> str:
    """The one that is given, or that of the source. Raises TokenizerError for one that is broken or absent."""
    beside = [Path(path) / TOKENIZER_FILE for path in (config.espnet, config.qwen3) if path]
    spec = config.tokenizer or next((str(path) for path in beside if path.is_file()), "byte")
    load_tokenizer(spec)
    return spec


def _fillings(
    config: ImportConfig, shapes: Shapes, opened: Mapping[str, Tensors]
) -> tuple[Fillings, Fillings]:
    """Parameters of the model and of the codec, checked against their sources."""
    for name, path in config.sources.items():
        hub_sizes.check(name, path, config.model, config.codec)
    if config.espnet:
        ours = {**shapes, **codec_shapes(config.codec)}
        found = sources.native(opened["espnet"], ours, config.codec, config.model.vocabulary, config.espnet)
    else:
        found = _parts(config, shapes, opened)
    codec = {n.removeprefix(espnet.CODEC): f for n, f in found.items() if n.startswith(espnet.CODEC)}
    model = {name: f for name, f in found.items() if not name.startswith(espnet.CODEC)}
    return fillings.as_dtype(model, config.dtype), codec


def _parts(config: ImportConfig, shapes: Shapes, opened: Mapping[str, Tensors]) -> Fillings:
    found: Fillings = {}
    if config.qwen3:
        found |= sources.backbone(opened["qwen3"], config.model, shapes, config.seed, config.qwen3)
    if config.tower:
        found |= sources.audio_tower(opened["tower"], shapes, config.tower)
    if config.xcodec:
        found |= sources.codec(opened["xcodec"], config.codec, config.xcodec)
    new = [name for name in shapes if name not in found]
    logger.info("newly initialised (seed %d): %s", config.seed, ", ".join(new))
    return found | fillings.initial(config.model, config.seed, new)


def _write_codec(path: Path, codec: Fillings, config: ImportConfig) -> None:
    shapes = codec_functional.shapes(config.codec)
    unread = {n: OnDemand(shapes[n].shape, filling.dtype, filling.read) for n, filling in codec.items()}
    save_codec(path, unread, config.codec, {"imported_from": Path(config.espnet or config.xcodec).name})


def _require_space(output: Path, shapes: Shapes, parameters: Fillings) -> None:
    needed = total_bytes(shapes, {name: filling.dtype for name, filling in parameters.items()})
    needed -= sum(file.stat().st_size for file in partial_of(output).rglob("*") if file.is_file())
    orbax_store.require_space(output, needed)


def _job(config: ImportConfig) -> dict:
    """What must be equal for an import to continue another one."""
    read = [file for path in config.sources.values() for file in source_files(path)]
    stats = [(str(file), file.stat()) for file in read]
    return {"config": repr(config), "files": [[name, s.st_size, s.st_mtime_ns] for name, s in stats]}


def codec_shapes(config: CodecConfig) -> Shapes:
    """The same of the codec, under `espnet.CODEC`."""
    return {espnet.CODEC + name: x.shape for name, x in codec_functional.shapes(config).items()}
