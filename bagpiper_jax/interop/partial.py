"""The directory `<output>.partial`, in which an import or export is written until it is whole."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bagpiper_jax import journal
from bagpiper_jax.interop.faults import InterchangeError


def partial_of(output: Path) -> Path:
    """Where `output` is written until it is whole."""
    return output.with_name(output.name + ".partial")


def clear(directory: Path, kept: Path) -> None:
    """Removes everything in a directory but one file."""
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != kept:
            entry.unlink()


@contextlib.contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """An empty directory for one process; what is still in it at the end, or after a fault, is removed.

    What a killed process left there is removed too, so that the same command starts anew. The caller renames what it
    has made, last of all what makes the output exist.

    Raises:
        JournalError: another process writes it.
    """
    directory = partial_of(output)
    directory.mkdir(parents=True, exist_ok=True)
    lock_file = directory / "lock"
    with open(lock_file, "wb") as file:
        journal.lock(file, directory)
        try:
            clear(directory, lock_file)
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def rename(made: Path, output: Path) -> None:
    """Gives a file or directory its final name. Raises InterchangeError if something has it by now."""
    if os.path.lexists(output):
        raise InterchangeError(f"{output} exists; remove it or choose another name")
    os.replace(made, output)
