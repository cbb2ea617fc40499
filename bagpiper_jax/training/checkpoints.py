"""Checkpoints through Orbax: everything a run needs to continue, saved in the background.

    <directory>/<step>/parameters   every parameter of the model, by its path; of a run with an adapter that alone
                       optimizer    optimizer state of the trainable ones, the step, and the guard's memory
                       data         position of the loader, JSON
                       provenance   operative gin and environment, JSON
                       digests.json sizes and hashes of all of these

Orbax makes a checkpoint visible only once it is complete; one torn by a crash is reported and removed at the next
start. What is read is compared with its digests. Trees are stored as nested dicts named like the parameters, so files
need none of our classes to be read.
"""

import dataclasses
import logging
import os
import time
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from bagpiper_jax import digests
from bagpiper_jax.models.adapters import lora
from bagpiper_jax.models.parameters import flatten, unflatten
from bagpiper_jax.parallel import parameter_path
from bagpiper_jax.runs.guard import Guard
from bagpiper_jax.training.checkpoint_checks import (
    CheckpointError,
    absolute,
    require_match,
    require_plain,
    stored_shapes,
    verified,
    verify,
)
from bagpiper_jax.training.partition import Parameters
from bagpiper_jax.training.state import TrainState

_log = logging.getLogger(__name__)

_TREES = ("parameters", "optimizer")


class SaveError(CheckpointError):
    """A checkpoint could not be written. Nothing is wrong with the run; it can go on once the storage works again."""


RETRY_SECONDS = (2.0, 15.0, 60.0)
"""Pauses before a failed save is repeated, in a run of one process."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: the directory of the checkpoints, local or a bucket; created if missing.
        keep: newest complete checkpoints kept.
    """

    def __init__(self, directory: str | os.PathLike, keep: int = 3):
        self.directory = absolute(directory)
        self._begun, self._failures, self._retry_at = -1, 0, None
        require_plain(self.directory)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, async_options=ocp.AsyncOptions(post_finalization_callback=self._write_digests)
        )
        try:
            self._remove_torn("a crash or kill while saving")
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=_handlers())
        except Exception as error:
            raise CheckpointError(
                f"cannot open {self.directory}: {error}. Check its permissions, or choose another output"
            ) from error

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def save(self, state: TrainState, data: dict, provenance: dict, wait: bool = False) -> None:
        """Starts saving; returns when the state is copied to the host, so its buffers may be donated.

        A save that fails is repeated after a pause: here if `wait`, else when the caller saves because of `failed`.
        Saves that are due in the pause are left out.

        Args:
            state, data, provenance: the train state, the data position and the provenance to save.
            wait: returns when the checkpoint is complete.

        Raises:
            SaveError: this save and its repetitions failed.
        """
        again = self.failed(wait=True)  # the save before this one, under its own name
        if self._retry_at is not None and not again:
            if not wait:
                return
            time.sleep(max(0.0, self._retry_at - time.monotonic()))
        while True:
            try:
                self._retry_at = None
                self._begin(state, data, provenance)
                if wait:
                    self._manager.wait_until_finished()
                    self._manager.check_for_errors()
                return
            except Exception as error:  # TensorStore reports a full disk as ValueError or XlaRuntimeError too
                pause = self._note_failure(error)
                if not wait:
                    return
                time.sleep(pause)

    def failed(self, wait: bool = False) -> bool:
        """Whether the last save failed and it is time to repeat it. Raises SaveError if that was its last chance."""
        try:
            if wait:
                self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            self._note_failure(error)
        if self._failures and self._manager.latest_step() == self._begun:
            self._failures = 0
        return self._retry_at is not None and time.monotonic() >= self._retry_at

    def wait(self) -> None:
        """Waits for the save in the background. Raises SaveError if it failed."""
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            raise SaveError(self._explain(error)) from error

    def _begin(self, state: TrainState, data: dict, provenance: dict) -> None:
        self._begun = int(state.step)
        self._manager.save(
            self._begun,
            args=ocp.args.Composite(
                parameters=ocp.args.PyTreeSave(unflatten(lora.stored(state.parameters))),
                optimizer=ocp.args.PyTreeSave(_optimizer_tree(state)),
                data=ocp.args.JsonSave(data),
                provenance=ocp.args.JsonSave(provenance),
            ),
            force=True,
        )

    def _note_failure(self, error: Exception) -> float:
        """Seconds until the next try. Raises SaveError when there is none."""
        # In a pod one process may have failed while the others have not, so they cannot agree on when to try again.
        # All of them end instead, and their next start removes what the others may still be writing now.
        if jax.process_count() == 1:
            self._remove_torn("the save failed")
            self._manager.reload()  # it has forgotten the checkpoint that this one would have replaced
        pauses = RETRY_SECONDS if jax.process_count() == 1 else ()
        if self._failures >= len(pauses):
            raise SaveError(self._explain(error)) from error
        pause = pauses[self._failures]
        self._failures += 1
        self._retry_at = time.monotonic() + pause
        _log.warning("saving step %d failed, next try in %g s: %s", self._begun, pause, error)
        return pause

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict]:
        """(state, loader position) of a checkpoint, laid out as `like`, on whatever mesh that is.

        Of a run with an adapter the state lacks the base, which no checkpoint holds; see `tables.with_base`.

        Args:
            step: a complete checkpoint.
            like: abstract state with shardings, see `state.abstract_state`.

        Raises:
            CheckpointError: names or shapes differ, e.g. a checkpoint of another model size or stage.
        """
        where = self.directory / str(step)
        optimizer = _optimizer_tree(like)
        with verified(where):
            items = self._read(step, where, like, optimizer)
        parameters, moments = flatten(items.parameters), flatten(items.optimizer)
        paths, structure = jax.tree_util.tree_flatten_with_path(like.opt_state)
        opt_state = jax.tree.unflatten(
            structure, [moments[f"state/{parameter_path(path)}"] for path, _ in paths]
        )
        trainable = {name: parameters[name] for name in like.trainable}
        frozen = {name: parameters[name] for name in like.frozen if name in parameters}
        guard = Guard(**{field.name: moments[f"guard/{field.name}"] for field in dataclasses.fields(Guard)})
        return TrainState(moments["step"], trainable, frozen, opt_state, guard), items.data

    def _read(self, step: int, where: epath.Path, like: TrainState, optimizer: dict):
        kept = lora.stored(like.parameters)
        require_match(where / "parameters", flatten(stored_shapes(where / "parameters")), kept)
        require_match(where / "optimizer", flatten(stored_shapes(where / "optimizer")), flatten(optimizer))
        wanted = ocp.args.Composite(
            parameters=_restore_as(unflatten(kept)),
            optimizer=_restore_as(optimizer),
            data=ocp.args.JsonRestore(),
        )
        return self._manager.restore(step, args=wanted)

    def close(self) -> None:
        """Ends the manager, after the save in the background."""
        self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, *_) -> None:
        """A save that was begun is completed also when training fails; what then fails with it is no news."""
        try:
            self.close()
        except Exception as error:
            if kind is None:
                raise SaveError(self._explain(error)) from error

    def _remove_torn(self, why: str) -> None:
        for entry in self._torn() if jax.process_index() == 0 else ():
            _log.warning("%s was never completed (%s); removing it", entry, why)
            try:
                entry.rmtree(missing_ok=True)
            except OSError as error:  # a write that is still under way; the next try or start removes it
                _log.warning("%s cannot be removed yet: %s", entry, error)

    def _torn(self) -> list[epath.Path]:
        """Directories of saves that are under way, or were when something ended them."""
        entries = sorted(self.directory.iterdir()) if self.directory.exists() else ()
        return [entry for entry in entries if ocp.utils.is_tmp_checkpoint(entry)]

    def _write_digests(self) -> None:
        """Of a checkpoint whose data are written, before it counts as complete; Orbax calls it in one process."""
        step = str(self._begun)
        (where,) = [entry for entry in self._torn() if entry.name.split(".")[0] == step]
        for tree in _TREES:
            if not (where / tree / "manifest.ocdbt").exists():
                raise CheckpointError(f"Orbax wrote no data into {where / tree}")
        own = [
            entry.name for entry in where.iterdir() if not entry.is_dir()
        ]  # Orbax has not finished with these
        digests.write(where, without=own)

    def _explain(self, error: Exception) -> str:
        complete = self._manager.latest_step()
        return (
            f"cannot write checkpoint in {self.directory}: {error}. Last complete checkpoint: "
            f"{'none' if complete is None else f'step {complete}'}. Free space or permissions there, or "
            "choose another output directory, and run the same command again to continue"
        )


def restore_parameters(path: str | os.PathLike, like: Parameters) -> Parameters:
    """Parameters alone, for generation, export, or a run that starts from another one's result.

    Args:
        path: a run's output directory, its `checkpoints`, or one step of them; the newest complete step is taken.
        like: abstract parameters with shardings, see `state.abstract_parameters`.

    Raises:
        CheckpointError: there is none, it is damaged, or names or shapes differ.
    """
    (everything,) = restore_in_parts(path, like, [like])
    return everything


def restore_in_parts(
    path: str | os.PathLike, like: Parameters, parts: Iterable[Collection[str]]
) -> Iterator[Parameters]:
    """The same some at a time, for whom all of them would be too large; take all parts, the last one is verified.

    Args:
        path, like: as `restore_parameters`.
        parts: the paths of the parameters that are read together.

    Raises:
        CheckpointError: as `restore_parameters`.
    """
    step = find_checkpoint(path)
    where = step / "parameters"
    with verified(step, ("parameters",)):
        require_match(where, flatten(stored_shapes(where)), like)
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            for part in parts:
                wanted = {name: x if name in part else ocp.PLACEHOLDER for name, x in like.items()}
                found = flatten(checkpointer.restore(where, args=_restore_as(unflatten(wanted))))
                yield {name: found[name] for name in part}


def find_parameters(path: str | os.PathLike) -> epath.Path:
    """The parameters of the step that `find_checkpoint` finds, compared with their digests.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    where = find_checkpoint(path)
    verify(where, ("parameters",))
    return where / "parameters"


def has_checkpoint(path: str | os.PathLike) -> bool:
    """Whether `find_checkpoint` finds one."""
    try:
        find_checkpoint(path)
    except CheckpointError:
        return False
    return True


def find_checkpoint(path: str | os.PathLike) -> epath.Path:
    """The step directory meant by a run, its `checkpoints` or a step. Raises CheckpointError if there is none."""
    path = absolute(path)
    if (path / "parameters").is_dir():
        return path
    for root in (path / "checkpoints", path):
        if root.is_dir():
            steps = ocp.utils.checkpoint_steps(root)
            if steps:
                return root / str(max(steps))
    raise CheckpointError(
        f"no complete checkpoint in {path}; give a run's output directory or one step of it"
    )


def _handlers() -> dict[str, ocp.CheckpointHandler]:
    # Compressing takes a tenth off float32 weights, and the time of saving and restoring twice (docs/performance.md).
    trees = {name: ocp.PyTreeCheckpointHandler(use_compression=False) for name in _TREES}
    return trees | {name: ocp.JsonCheckpointHandler() for name in ("data", "provenance")}


def _restore_as(like: dict) -> ocp.args.PyTreeRestore:
    return ocp.args.PyTreeRestore(like, restore_args=ocp.checkpoint_utils.construct_restore_args(like))


def _optimizer_tree(state: TrainState) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(state.opt_state)
    guard = {f"guard/{name}": x for name, x in vars(state.guard).items()}
    return unflatten({"step": state.step} | guard | {f"state/{parameter_path(p)}": x for p, x in leaves})
