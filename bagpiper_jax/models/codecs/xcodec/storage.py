"""One safetensors file per codec: the tensors, and the config as JSON in the header.

In the file, and in the fingerprint, the paths of parameters are joined by dots, as PyTorch writes them.
"""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bagpiper_jax import files, strict, typed
from bagpiper_jax.errors import Explained
from bagpiper_jax.models.codecs.xcodec.functional import shapes
from bagpiper_jax.models.configs import CodecConfig
from bagpiper_jax.models.parameters import Parameters, require_match, shapes_of

FORMAT = "bagpiper_jax.codec.1"

NANO = Path(__file__).parents[3] / "assets" / "codec_nano.safetensors"
"""The shipped codec, made by gin/runs/train_codec_nano.gin (docs/codec.md)."""

_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""What safetensors calls them."""

_RUNNING_MEANS = ("quantizer/cluster_size", "quantizer/embed_avg", "quantizer/inited")
"""Codebook statistics that only training reads; a file of a finished codec may leave them out."""


class CodecFileError(Explained, ValueError):
    """A file that is no codec of ours; names the file and the fault."""


def fingerprint(parameters: Parameters, config: CodecConfig) -> str:
    """12 hex digits over the config and every tensor that a code or a decoded sample depends on."""
    digest = hashlib.sha256(_config_json(config).encode())
    names = {_in_file(path): path for path in set(parameters) - set(_RUNNING_MEANS)}
    for name in sorted(names):
        tensor = np.ascontiguousarray(parameters[names[name]], np.float32)
        digest.update(f"{name}{tensor.shape}".encode())
        digest.update(tensor.reshape(-1).view(np.uint8))
    return digest.hexdigest()[:12]


def save_codec(
    path: str | os.PathLike,
    parameters: Parameters,
    config: CodecConfig,
    provenance: Mapping = {},
    compact: bool = False,
) -> str:
    """Writes a codec atomically and returns its fingerprint.

    Args:
        parameters: arrays, or whatever has a shape and a dtype and numpy can read; each is in memory for itself.
        provenance: JSON values kept in the header: data, seed, steps.
        compact: float16, without the running means of the codebooks. The rounded codec is another codec, with
            its own fingerprint.

    Raises:
        WriteError: the disk is full, or refuses for another reason; an old file is as it was.
    """
    _require(parameters, config)
    tensors = dict(parameters)
    if compact:
        tensors = {n: np.asarray(t, np.float16) for n, t in tensors.items() if n not in _RUNNING_MEANS}
    name = fingerprint(tensors, config)
    header = {
        "format": FORMAT,
        "fingerprint": name,
        "config": _config_json(config),
        "provenance": json.dumps(dict(provenance), sort_keys=True),
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as temporary:
        _write(temporary, {_in_file(path): x for path, x in tensors.items()}, header)
    return name


def _in_file(path: str) -> str:
    return path.replace("/", ".")


def _in_memory(name: str) -> str:
    return name.replace(".", "/")


def _require(parameters: Parameters, config: CodecConfig, where: str | os.PathLike = "the codec") -> None:
    """Raises CodecFileError unless the parameters are those of the sizes."""
    remedy = "the file and its config belong to different codecs"
    require_match(shapes_of(shapes(config)), shapes_of(parameters), where, CodecFileError, remedy)


def _write(path: Path, tensors: Parameters, metadata: Mapping[str, str]) -> None:
    """A safetensors file, one tensor in memory at a time. The library's own `save` needs all of them twice, and writes
    the metadata in a random order, while equal codecs should be equal files."""
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))  # aligned
    header, end = {"__metadata__": metadata}, 0
    for name in names:
        shape, dtype = tensors[name].shape, np.dtype(tensors[name].dtype)
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _TYPES[dtype.name], "shape": shape, "data_offsets": (start, end)}
    text = json.dumps(header, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8))


def load_codec(path: str | os.PathLike) -> tuple[Parameters, CodecConfig]:
    """Reads parameters, as float32, and config.

    Raises:
        CodecFileError: missing or damaged file, another format, or contents that differ from the fingerprint.
    """
    from safetensors import SafetensorError, safe_open

    header = _metadata(path)
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {_in_memory(name): file.get_tensor(name).astype(np.float32) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    return _complete(path, header, tensors)


def open_codec(path: str | os.PathLike, tensors: Parameters) -> tuple[Parameters, CodecConfig]:
    """The same of tensors that their reader opened without reading them: each is read once, for the fingerprint."""
    return _complete(path, _metadata(path), {_in_memory(name): tensor for name, tensor in tensors.items()})


def _metadata(path: str | os.PathLike) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise CodecFileError(
            f"{path} does not exist; train a codec with train_codec, or name the shipped one"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: str | os.PathLike, error: Exception) -> CodecFileError:
    return CodecFileError(f"{path} is damaged or no safetensors file ({error}); fetch it again")


def _complete(
    path: str | os.PathLike, header: Mapping[str, str], tensors: Parameters
) -> tuple[Parameters, CodecConfig]:
    """Checked against the header, with the statistics that a compact file leaves out."""
    if header.get("format") != FORMAT:
        raise CodecFileError(
            f"{path} is no codec of ours: format {header.get('format')!r}, expected {FORMAT!r}"
        )
    try:
        config = typed.from_json(CodecConfig, strict.loads(header.get("config", "")))
    except (TypeError, ValueError) as error:
        raise CodecFileError(f"{path}: its config is none of a codec: {error}") from error
    parameters = {**tensors, **_restored_means(tensors)}
    _require(parameters, config, path)
    told = header.get("fingerprint")
    if fingerprint(parameters, config) != told:
        raise CodecFileError(f"{path}: contents differ from their fingerprint {told}; fetch it again")
    return parameters, config


def read_header(path: str | os.PathLike) -> dict:
    """Fingerprint, config and provenance, without the tensors. Raises CodecFileError."""
    header = _metadata(path)
    try:
        return header | {key: strict.loads(header.get(key, "")) for key in ("config", "provenance")}
    except ValueError as error:
        raise _damaged(path, error) from error


def _restored_means(tensors: Parameters) -> Parameters:
    """Statistics that would yield the stored code vectors."""
    embed = tensors.get("quantizer/embed")
    if embed is None or len(embed.shape) != 3:  # what is wrong is told of all parameters together
        return {}
    derived = {
        "quantizer/cluster_size": np.ones(embed.shape[:2], np.float32),
        "quantizer/embed_avg": embed,
        "quantizer/inited": np.ones((embed.shape[0], 1), np.float32),
    }
    return {name: value for name, value in derived.items() if name not in tensors}


def _config_json(config: CodecConfig) -> str:
    return json.dumps(dataclasses.asdict(config), sort_keys=True)
