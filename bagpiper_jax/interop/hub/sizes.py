"""Sizes that the config.json of a checkpoint tells: an import takes them from there, or compares them with its own.

Shapes alone do not tell everything: a rotary base, an epsilon, a number of heads of the same total width change the
numbers without a word.
"""

import dataclasses
import logging
import math
import typing
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from bagpiper_jax.interop.faults import InterchangeError, shown
from bagpiper_jax.interop.formats.tensors import read_object
from bagpiper_jax.interop.hub import config as hub_config
from bagpiper_jax.interop.hub.config import CHUNK_FRAMES, HALF_CHUNK
from bagpiper_jax.models.configs import (
    AudioTowerConfig,
    BagpiperConfig,
    CodecConfig,
    DecoderConfig,
    SemanticEncoderConfig,
)
from bagpiper_jax.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Size:
    """One of our sizes as a config.json tells it.

    Attributes:
        theirs: field of theirs.
        found: its value as it stands there.
        ours: class and field of ours, as gin binds it.
        value: what ours must be; None where `found` is no such size.
        binding: whether another size of ours contradicts it. A text vocabulary may have fewer rows than ours.
    """

    theirs: str
    found: Any
    ours: str
    value: Any
    binding: bool = True


def completed(
    sources: Mapping[str, str], model: BagpiperConfig, codec: CodecConfig, bound: Container[str]
) -> tuple[BagpiperConfig, CodecConfig]:
    """Our sizes, taken from the sources wherever nobody bound them; `check` then refuses what contradicts a source.

    Args:
        sources: path of each checkpoint by the setting of `ImportConfig` that names it.
        model, codec: sizes as they are configured.
        bound: what somebody bound, such as "DecoderConfig.layers".

    Raises:
        InterchangeError: a config.json that is broken, or whose sizes make no model.
    """
    for kind, path in sources.items():
        where, content = _read(path)
        told = {s.ours: s.value for s in _sizes(kind, content, where) if s.value is not None}
        told = {name: value for name, value in told.items() if name not in bound}
        try:
            model, codec = _replaced(model, told), _replaced(codec, told)
        except ValueError as error:
            raise InterchangeError(f"{where} describes no model of ours: {error}") from error
        if told:
            logger.info("%s tells %s", where, ", ".join(f"{name} = {x!r}" for name, x in told.items()))
    return model, codec


def _replaced(config: Any, told: Mapping[str, Any]) -> Any:
    """A dataclass, and those within it, with the values told."""
    changes = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = _replaced(value, told)
        elif (name := f"{type(config).__name__}.{field.name}") in told:
            changes[field.name] = told[name]
    return dataclasses.replace(config, **changes)


def check(kind: str, path: str | Path, model: BagpiperConfig, codec: CodecConfig | None) -> None:
    """Compares a checkpoint's config.json, if it has one, with our sizes.

    Args:
        kind: setting of `ImportConfig` that names the checkpoint.
        path: the checkpoint.
        model, codec: sizes; None for those of a codec that is not read.

    Raises:
        InterchangeError: a broken file, or fields that differ, each with the binding that would fit.
    """
    where, content = _read(path)
    own = _flat(model) | (_flat(codec) if codec else {})
    faults = [_fault(size, own[size.ours]) for size in _sizes(kind, content, where) if size.ours in own]
    faults += _unsupported(*_sections(kind, content, where))
    if kind == "espnet" or (kind == "qwen3" and "codec_base_offset" in content):
        faults += _layout_faults(content, model.vocabulary)
    if any(faults):
        raise InterchangeError(f"{where} describes another model:\n  " + "\n  ".join(filter(None, faults)))


def _flat(config: Any) -> dict[str, Any]:
    """Class and field → value, of a dataclass and those within it."""
    found = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        nested = dataclasses.is_dataclass(value)
        found |= _flat(value) if nested else {f"{type(config).__name__}.{field.name}": value}
    return found


def _fault(size: Size, own: Any) -> str | None:
    if size.value is None:
        return f"{size.theirs} is {shown(size.found)}, which is no {size.ours}"
    if size.value == own or not size.binding:
        return None
    return f"{size.theirs} is {size.found}, ours {own}: bind {size.ours} = {size.value!r}"


def _read(path: str | Path) -> tuple[Path, dict]:
    """Where the config.json of a checkpoint is, and what it holds; nothing if there is none."""
    where = Path(path) / hub_config.FILE
    return where, read_object(where, "model configuration") if where.is_file() else {}


def _sizes(kind: str, content: dict, where: Path) -> Iterator[Size]:
    """All sizes of ours that a config.json tells."""
    text, audio = _sections(kind, content, where)
    rope = _section(text, "rope_parameters", where)
    yield from _of_table(hub_config.DECODER, {**text, **rope}, DecoderConfig)
    yield from _of_table(hub_config.TOWER, audio, AudioTowerConfig)
    yield from _windows(audio)
    yield from _vocabulary(kind, content)
    if kind in ("xcodec", "espnet"):
        yield from _codec(content if kind == "xcodec" else _section(content, "codec_config", where), where)


def _of_table(table: Mapping[str, str], theirs: dict, ours: type) -> Iterator[Size]:
    types = typing.get_type_hints(ours)
    for name, field in table.items():
        if theirs.get(name) is not None:
            value = _positive(theirs[name], types[field])
            yield Size(name, theirs[name], f"{ours.__name__}.{field}", value)


def _positive(value: Any, kind: Any) -> Any:
    """The value as a size of a type, None if it is none."""
    if kind is float and type(value) in (int, float):
        return float(value) if 0 < value < math.inf else None
    if kind is int:
        return value if type(value) is int and 0 < value < 1 << 31 else None
    if isinstance(value, list) and value and all(_positive(x, int) for x in value):
        return tuple(value)
    return None


def _sections(kind: str, content: dict, where: Path) -> tuple[dict, dict]:
    """The parts about decoder and tower."""
    if kind == "qwen3":
        return content, {}
    if kind == "xcodec":
        return {}, {}
    thinker = _section(content, "thinker_config", where) or content
    audio = _section(thinker, "audio_config", where) or (content if "d_model" in content else {})
    return (_section(content, "text_config", where) if kind == "espnet" else {}), audio


def _section(content: dict, name: str, where: Path) -> dict:
    part = content.get(name)
    if part is not None and not isinstance(part, dict):
        raise InterchangeError(f"{where}: {name} is {shown(part)}, not an object")
    return part or {}


def _windows(audio: dict) -> Iterator[Size]:
    window = audio.get("n_window_infer")
    if window is None:
        return
    if _is_serving_override(audio):
        logger.warning(
            "n_window 100/400 are the serving override of the vLLM fork (docs/reference.md, Audio tower), not taken"
        )
        return
    whole = _positive(window, int) and window % CHUNK_FRAMES == 0
    yield Size(
        "n_window_infer", window, "AudioTowerConfig.window_chunks", window // CHUNK_FRAMES if whole else None
    )


def _is_serving_override(audio: dict) -> bool:
    return (audio.get("n_window"), audio.get("n_window_infer")) == (100, 400)


def _vocabulary(kind: str, content: dict) -> Iterator[Size]:
    """Sizes of the vocabulary: from the layout where it is written, else from the rows of a text model."""
    start, end, stream = (
        content.get(n) for n in ("text_token_offset", "codec_base_offset", "codec_layer_size")
    )
    if kind in ("espnet", "qwen3") and end is not None:
        whole = _positive(start, int) and _positive(end, int)
        yield Size(
            "codec_base_offset", end, "Vocabulary.text_size", _positive(whole and end - start, int), False
        )
        codes = _positive(stream, int) and _positive(stream - 1, int)
        yield Size("codec_layer_size", stream, "Vocabulary.codebook_size", codes, False)
        streams = content.get("num_stream")
        yield Size("num_stream", streams, "Vocabulary.num_streams", _positive(streams, int), False)
    elif kind == "qwen3" and (rows := content.get("vocab_size")) is not None:
        yield Size("vocab_size", rows, "Vocabulary.text_size", _positive(rows, int), False)


def _codec(content: dict, where: Path) -> Iterator[Size]:
    acoustic = _section(content, "acoustic_model_config", where)
    semantic = _section(content, "semantic_model_config", where)
    found = [
        *_of_table(hub_config.CODEC, content, CodecConfig),
        *_of_table(hub_config.ACOUSTIC, acoustic, CodecConfig),
        *_of_table(hub_config.SEMANTIC, semantic, SemanticEncoderConfig),
    ]
    yield from found
    told = {size.ours: size.value for size in found}
    rate, size, strides = (told.get(f"CodecConfig.{n}") for n in ("sample_rate", "codebook_size", "strides"))
    if size:
        yield Size("codebook_size", size, "Vocabulary.codebook_size", size)
    widest = content.get("target_bandwidths")
    if rate and size and strides and widest is not None:
        books = _codebooks(widest, rate / math.prod(strides) * (size - 1).bit_length())
        yield Size("target_bandwidths", widest, "CodecConfig.num_codebooks", books)
        yield Size("target_bandwidths", widest, "Vocabulary.num_streams", books)


def _codebooks(bandwidths: Any, bits: float) -> int | None:
    """How many codebooks of so many bits per second the widest of the bandwidths, in kbit/s, has room for."""
    if not isinstance(bandwidths, list) or not all(_positive(x, float) for x in bandwidths) or not bandwidths:
        return None
    books = 1000 * max(bandwidths) / bits if bits else math.inf
    return _positive(round(books), int) if books < 1 << 31 else None


def _unsupported(text: dict, audio: dict) -> list[str]:
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else rope
    faults = [f"rope type {shown(kind)} is not supported"] if kind != "default" else []
    for name in ("attention_bias", "use_sliding_window", "num_experts"):
        if text.get(name):
            faults.append(f"{name} {shown(text[name])} is not supported, only dense Qwen3 is")
    half = audio.get("n_window", HALF_CHUNK)
    if half != HALF_CHUNK and not _is_serving_override(audio):
        faults.append(f"n_window {shown(half)} is not supported, only {HALF_CHUNK} is")
    return faults


def _layout_faults(content: dict, vocabulary: Vocabulary) -> list[str]:
    return [
        f"{name} is {shown(content[name])}, this vocabulary's is {value}; its ids would mean something else"
        for name, value in hub_config.layout(vocabulary).items()
        if name in content and content[name] != value
    ]
