"""One safetensors file per codec: the tensors, and the config as JSON in the header."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bagpiper_jax.models.codec.functional import Parameters, check
from bagpiper_jax.models.config_json import from_dict
from bagpiper_jax.models.configs import CodecConfig

FORMAT = "bagpiper_jax.codec.1"

NANO = Path(__file__).parents[2] / "assets" / "codec_nano.safetensors"
"""The shipped codec, made by gin/runs/train_codec_nano.gin (docs/codec.md)."""

_RUNNING_MEANS = ("quantizer.cluster_size", "quantizer.embed_avg", "quantizer.inited")
"""Codebook statistics that only training reads; a file of a finished codec may leave them out."""


class CodecFileError(ValueError):
    """A file that is no codec of ours; names the file and the fault."""


def fingerprint(parameters: Parameters, config: CodecConfig) -> str:
    """12 hex digits over the config and every tensor that a code or a decoded sample depends on."""
    digest = hashlib.sha256(_config_json(config).encode())
    for name in sorted(set(parameters) - set(_RUNNING_MEANS)):
        tensor = np.ascontiguousarray(parameters[name], np.float32)
        digest.update(f"{name}{tensor.shape}".encode())
        digest.update(tensor.tobytes())
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
        provenance: JSON values kept in the header: data, seed, steps.
        compact: float16, without the running means of the codebooks. The rounded codec is another codec, with
            its own fingerprint.
    """
    from safetensors.numpy import save

    check(parameters, config)
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in parameters.items()}
    if compact:
        tensors = {name: t.astype(np.float16) for name, t in tensors.items() if name not in _RUNNING_MEANS}
    name = fingerprint(tensors, config)
    header = {
        "format": FORMAT,
        "fingerprint": name,
        "config": _config_json(config),
        "provenance": json.dumps(dict(provenance), sort_keys=True),
    }
    temporary = Path(f"{os.fspath(path)}.tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    content = memoryview(save(tensors, header))
    start = 8 + int.from_bytes(content[:8], "little")
    with open(temporary, "wb") as file:
        file.write(_sorted_header(content[:start]))
        file.write(content[start:])
    os.replace(temporary, path)
    return name


def load_codec(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], CodecConfig]:
    """Reads parameters, as float32, and config.

    Raises:
        CodecFileError: missing or damaged file, another format, or contents that differ from the fingerprint.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise CodecFileError(
            f"{path} does not exist; train a codec with train_codec, or name the shipped one"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CodecFileError(f"{path} is damaged or no safetensors file ({error}); fetch it again") from error
    if header.get("format") != FORMAT:
        raise CodecFileError(
            f"{path} is no codec of ours: format {header.get('format')!r}, expected {FORMAT!r}"
        )
    try:
        config = from_dict(CodecConfig, json.loads(header["config"]))
        parameters = tensors | _restored_means(tensors)
        check(parameters, config)
    except (KeyError, TypeError, ValueError) as error:
        raise CodecFileError(f"{path}: {error}") from error
    if fingerprint(parameters, config) != header["fingerprint"]:
        raise CodecFileError(f"{path}: contents differ from their fingerprint {header['fingerprint']}")
    return parameters, config


def _sorted_header(start: memoryview) -> bytes:
    """The same start of a file with its header in order: safetensors writes metadata in a random one, and equal codecs
    should be equal files."""
    header = json.loads(bytes(start[8:]))
    text = json.dumps(header, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    return bytes(start[:8]) + text.ljust(len(start) - 8)


def read_header(path: str | os.PathLike) -> dict:
    """Fingerprint, config and provenance, without the tensors."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        header = file.metadata()
    return header | {key: json.loads(header[key]) for key in ("config", "provenance")}


def _restored_means(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Statistics that would yield the stored code vectors."""
    embed = tensors["quantizer.embed"]
    derived = {
        "quantizer.cluster_size": np.ones(embed.shape[:2], np.float32),
        "quantizer.embed_avg": embed,
        "quantizer.inited": np.ones((len(embed), 1), np.float32),
    }
    return {name: value for name, value in derived.items() if name not in tensors}


def _config_json(config: CodecConfig) -> str:
    return json.dumps(dataclasses.asdict(config), sort_keys=True)
