"""Digests of files that are written for later: a byte that changed on the disk is noticed when it is read.

A directory keeps them in `digests.json`, a size and an XXH3 hash for each file below it. The hash tells damage, at the
speed of memory; it is no protection against someone who changes files on purpose.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from etils import epath

from bagpiper_jax.errors import Explained

FILE = "digests.json"
_ALGORITHM = "xxh3_128"
_MOST_NAMED = 5
_BLOCK = 1 << 20


class DigestError(Explained, ValueError):
    """A file is not what was written; the message names the file and what is wrong with it."""


def of_file(path: str | os.PathLike) -> str:
    """XXH3 hash of a file's content, 128 bits in hexadecimal."""
    found, buffer = _hash()(), memoryview(bytearray(_BLOCK))
    with epath.Path(path).open("rb") as file:
        while count := file.readinto(buffer):
            found.update(buffer[:count])
    return found.hexdigest()


def of_parts(parts: Iterator[bytes]) -> str:
    """The same of bytes that follow one another."""
    found = _hash()()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def write(directory: str | os.PathLike, without: Collection[str] = ()) -> None:
    """Writes `<directory>/digests.json` about all files below, but those `without`, by their path in the directory."""
    root = epath.Path(directory)
    names = [name for name in _files(root) if name != FILE and name not in without]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        entries = dict(zip(names, threads.map(lambda name: _entry(root / name), names), strict=True))
    (root / FILE).write_text(json.dumps({"files": entries}, indent=1) + "\n")


def verify(
    directory: str | os.PathLike, below: Collection[str] = (), share: tuple[int, int] = (0, 1)
) -> bool:
    """Compares files with what was written of them.

    Args:
        directory: with `digests.json`.
        below: files and directories in it that are looked at; by default all.
        share: (index, count): this one of `count` processes, among which the bytes are divided.

    Returns:
        False where there are no digests, as of a version that wrote none.

    Raises:
        DigestError: files are missing, shorter, longer or have another content.
    """
    root = epath.Path(directory)
    if not (root / FILE).exists():
        return False
    entries = _read(root / FILE)
    names = [
        name
        for name in entries
        if not below or name in below or name.startswith(tuple(f"{b}/" for b in below))
    ]
    index, count = share
    names = sorted(names, key=lambda name: -entries[name]["bytes"])[index::count]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        faults = [
            fault for fault in threads.map(lambda name: _fault(root / name, entries[name]), names) if fault
        ]
    if faults:
        more = [f"and {len(faults) - _MOST_NAMED} more"] if len(faults) > _MOST_NAMED else []
        raise DigestError("; ".join(sorted(faults)[:_MOST_NAMED] + more))
    return True


def _entry(path: epath.Path) -> dict:
    return {"bytes": path.stat().length, _ALGORITHM: of_file(path)}


def _fault(path: epath.Path, entry: Mapping) -> str | None:
    try:
        size = path.stat().length
        if size != entry["bytes"]:
            return f"{path} has {size} bytes, {entry['bytes']} were written"
        return None if of_file(path) == entry[_ALGORITHM] else f"{path} has changed since it was written"
    except FileNotFoundError:
        return f"{path} is missing"
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        return f"{path} cannot be read: {error}"


def _read(path: epath.Path) -> dict[str, dict]:
    """Path → entry, each of which has both values. Raises DigestError if the file is not what `write` makes."""
    try:
        entries = json.loads(path.read_bytes())["files"]
        good = all(
            type(entry["bytes"]) is int
            and type(entry[_ALGORITHM]) is str
            and set(entry) == {"bytes", _ALGORITHM}
            for entry in entries.values()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DigestError(f"{path} is damaged: {error!r}") from error
    if not good:
        raise DigestError(f"{path} is damaged: an entry has not a size and a digest")
    return entries


def _files(root: epath.Path) -> Iterator[str]:
    for entry in sorted(root.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from (f"{entry.name}/{name}" for name in _files(entry))
        else:
            yield entry.name


def _hash():
    import xxhash  # a host that only imports the models has none

    return xxhash.xxh3_128
