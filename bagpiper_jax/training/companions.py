"""Tokenizer and codec of a run. They are kept inside it, so that a run that is copied or moved is still whole."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from etils import epath

from bagpiper_jax import digests, files
from bagpiper_jax.models.config_json import find_model_config
from bagpiper_jax.text import JsonTokenizer, load_tokenizer

TOKENIZER, CODEC = "tokenizer.json", "codec.safetensors"
_BYTES = "byte"


def keep(directory: Path, tokenizer: str | None, codec: str | None = None) -> dict:
    """Copies them into a run's directory; what its config.json says of them.

    Args:
        tokenizer: a spec as `load_tokenizer` takes it.
        codec: a codec file.

    Raises:
        TokenizerError: there is no such tokenizer.
        WriteError: the disk refuses a copy.
    """
    directory.mkdir(parents=True, exist_ok=True)
    told: dict = {"tokenizer": tokenizer, "codec": codec}
    found = load_tokenizer(tokenizer) if tokenizer else None
    if isinstance(found, JsonTokenizer):
        files.replace(directory / TOKENIZER, found.content)
        told["tokenizer"] = TOKENIZER
    if codec:
        if not _is_same(Path(codec), directory / CODEC):
            with files.whole(directory / CODEC) as temporary:
                shutil.copyfile(codec, temporary)
        told["codec"] = CODEC
    copied = [name for name in (TOKENIZER, CODEC) if name in told.values()]
    if copied:
        told["digests"] = {name: digests.of_file(directory / name) for name in copied}
    return told


def find(checkpoint: str | os.PathLike, extras: Mapping, name: str) -> str:
    """Where the "tokenizer" or the "codec" of a run, an import or one of their steps is; "" if it has none.

    Args:
        extras: what `load_model_config` read beside the configuration.

    Raises:
        DigestError: it is not what the run began with.
    """
    spec = extras.get(name) or ""
    if not spec or spec == _BYTES:
        return spec
    inside = find_model_config(checkpoint).parent / spec
    if not inside.exists():  # runs of older versions say where it was, seen from the working directory
        return spec
    known = extras.get("digests", {}).get(spec)
    if known and digests.of_file(inside) != known:
        raise digests.DigestError(
            f"{inside} has changed since it was written; bring the file that the run began with"
        )
    return _local(inside)


def _is_same(one: Path, other: Path) -> bool:
    return other.is_file() and (one.samefile(other) or digests.of_file(one) == digests.of_file(other))


def _local(path: epath.Path) -> str:
    """A file of a bucket comes here, where libraries can open it."""
    if "://" not in os.fspath(path):
        return os.fspath(path)
    copy = Path(tempfile.mkdtemp(prefix="bagpiper-")) / path.name
    copy.write_bytes(path.read_bytes())
    return str(copy)
