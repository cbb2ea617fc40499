"""What is checked before a checkpoint is written or believed: its path, its digests, its names and shapes."""

import contextlib
import logging
import os
from collections.abc import Iterator

import jax
import orbax.checkpoint as ocp
from etils import epath

from bagpiper_jax import digests
from bagpiper_jax.errors import Explained
from bagpiper_jax.models import parameters

_log = logging.getLogger(__name__)

_PATTERN = set("*?[]\\")
"""Orbax finds what it wrote by patterns that hold the whole path; below these it finds nothing, or another's."""


class CheckpointError(Explained, RuntimeError):
    """A checkpoint that cannot be written or does not fit; the message names directory and remedy."""


def absolute(path: str | os.PathLike) -> epath.Path:
    """A path that does not depend on the working directory; a bucket's is left as it is."""
    path = os.fspath(path)
    return epath.Path(path if "://" in path else os.path.abspath(path))


def require_plain(path: str | os.PathLike) -> None:
    """Raises CheckpointError for a path below which Orbax cannot write."""
    path = os.fspath(absolute(path))
    try:
        path.encode()
    except UnicodeEncodeError:
        raise CheckpointError(
            f"the path {path!r} is no Unicode text; checkpoints cannot be written there"
        ) from None
    if found := sorted(_PATTERN & set(path)):
        raise CheckpointError(
            f"the path {path} holds {' '.join(found)}, which Orbax takes for a pattern: checkpoints there would have "
            "no data. Choose another output"
        )


def verify(where: epath.Path, below: tuple[str, ...] = ()) -> None:
    """Compares a checkpoint with its digests, among several processes a share in each."""
    try:
        known = digests.verify(where, below, (jax.process_index(), jax.process_count()))
    except digests.DigestError as error:
        raise damaged(where, error) from error
    if not known:
        _log.warning(
            "%s has no digests: it is of a version that wrote none, so damage to it would go unnoticed", where
        )


@contextlib.contextmanager
def verified(where: epath.Path, below: tuple[str, ...] = ()) -> Iterator[None]:
    """Compares a checkpoint, or what is below it, with its digests once the body has read it.

    Its files are then still in memory, so the disk is read once. What the digests say comes first: the reader of a
    damaged file finds other words, or none.

    Raises:
        CheckpointError: it is damaged, or the body cannot read it.
    """
    try:
        yield
    except CheckpointError:
        verify(where, below)
        raise
    except Exception as error:  # TensorStore has many kinds for a damaged file
        verify(where, below)
        raise damaged(where, error) from error
    verify(where, below)


def damaged(where: epath.Path, error: Exception) -> CheckpointError:
    siblings = ocp.utils.checkpoint_steps(where.parent) if where.name.isdecimal() else []
    earlier = [step for step in siblings if step < int(where.name)]
    remedy = (
        f"move it away and run the same command again, which then takes step {max(earlier)}"
        if earlier
        else "there is no earlier checkpoint beside it"
    )
    return CheckpointError(f"cannot read {where}: {error}. If its storage works, it is damaged: {remedy}")


def stored_shapes(where: epath.Path) -> dict:
    """Nested shapes of a stored tree. Raises CheckpointError if it is not readable."""
    try:
        metadata = ocp.PyTreeCheckpointHandler().metadata(where)
    except (OSError, ValueError, KeyError) as error:
        raise damaged(where.parent, error) from error
    return metadata.tree


def require_match(where: epath.Path, stored: dict, wanted: dict) -> None:
    """Raises CheckpointError where names or shapes of a stored tree are not those wanted."""
    remedy = "use the model and stage it was trained with, or another output directory"
    parameters.require_match(
        parameters.shapes_of(wanted), parameters.shapes_of(stored), where, CheckpointError, remedy
    )
