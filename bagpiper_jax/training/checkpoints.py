"""Checkpoints through Orbax: everything a run needs to continue, saved in the background.

    <directory>/<step>/parameters   every parameter of the model, by its path
                       optimizer    optimizer state of the trainable ones, the step, and the guard's memory
                       data         position of the loader, JSON
                       provenance   operative gin and environment, JSON

Orbax makes a checkpoint visible only once it is complete; one torn by a crash is reported and removed at the next
start. Trees are stored as nested dicts named like the parameters, so files need none of our classes to be read.
"""

import dataclasses
import logging
import os
import time
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from bagpiper_jax.errors import Explained
from bagpiper_jax.parallel import parameter_path
from bagpiper_jax.runs.guard import Guard
from bagpiper_jax.training.partition import Parameters
from bagpiper_jax.training.state import TrainState, flatten, unflatten

_log = logging.getLogger(__name__)

_MOST_NAMES = 12
_DAMAGED = (
    "If its storage works, it is damaged: move it away and run the same command again, which then takes the "
    "checkpoint before it"
)


class CheckpointError(Explained):
    """A checkpoint that cannot be written or does not fit; the message names directory and remedy."""


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
        self.directory = _absolute(directory)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        try:
            self._remove_torn()
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=_handlers())
        except Exception as error:
            raise CheckpointError(
                f"cannot open {self.directory}: {error}. Check its permissions, or choose another output"
            ) from error
        self._begun, self._failures, self._retry_at = -1, 0, None

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def save(self, state: TrainState, data: dict, provenance: dict, wait: bool = False) -> None:
        """Starts saving; returns when the state is copied to the host, so its buffers may be donated.

        A save that fails is repeated after a pause: here if `wait`, else when the caller saves because of `failed`.

        Args:
            state, data, provenance: the train state, the data position and the provenance to save.
            wait: returns when the checkpoint is complete.

        Raises:
            SaveError: this save and its repetitions failed.
        """
        self.failed(wait=True)  # the save before this one, under its own name
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
                parameters=ocp.args.PyTreeSave(unflatten(state.parameters)),
                optimizer=ocp.args.PyTreeSave(_optimizer_tree(state)),
                data=ocp.args.JsonSave(data),
                provenance=ocp.args.JsonSave(provenance),
            ),
            force=True,
        )

    def _note_failure(self, error: Exception) -> float:
        """Seconds until the next try. Raises SaveError when there is none."""
        # Among several processes each one sees another failure, or none; a restart of all is what agrees them.
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

        Args:
            step: a complete checkpoint.
            like: abstract state with shardings, see `state.abstract_state`.

        Raises:
            CheckpointError: names or shapes differ, e.g. a checkpoint of another model size or stage.
        """
        where = self.directory / str(step)
        optimizer = _optimizer_tree(like)
        _require_match(where / "parameters", flatten(_stored(where / "parameters")), like.parameters)
        _require_match(where / "optimizer", flatten(_stored(where / "optimizer")), flatten(optimizer))
        wanted = ocp.args.Composite(
            parameters=_restore_as(unflatten(like.parameters)),
            optimizer=_restore_as(optimizer),
            data=ocp.args.JsonRestore(),
        )
        try:
            items = self._manager.restore(step, args=wanted)
        except Exception as error:  # TensorStore has many kinds for a damaged file
            raise CheckpointError(f"cannot read {where}: {error}. {_DAMAGED}") from error
        parameters, moments = flatten(items.parameters), flatten(items.optimizer)
        paths, structure = jax.tree_util.tree_flatten_with_path(like.opt_state)
        opt_state = structure.unflatten([moments[f"state/{parameter_path(path)}"] for path, _ in paths])
        trainable = {name: parameters[name] for name in like.trainable}
        frozen = {name: parameters[name] for name in like.frozen}
        guard = Guard(**{field.name: moments[f"guard/{field.name}"] for field in dataclasses.fields(Guard)})
        return TrainState(moments["step"], trainable, frozen, opt_state, guard), items.data

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

    def _remove_torn(self) -> None:
        if not self.directory.exists() or jax.process_index():
            return
        for entry in sorted(self.directory.iterdir()):
            if ocp.utils.is_tmp_checkpoint(entry):
                _log.warning("%s was never completed (a crash or kill while saving); removing it", entry)
                entry.rmtree()

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
        CheckpointError: there is none, or names or shapes differ.
    """
    where = find_checkpoint(path) / "parameters"
    _require_match(where, flatten(_stored(where)), like)
    with ocp.StandardCheckpointer() as checkpointer:
        return flatten(checkpointer.restore(where, unflatten(like)))


def find_checkpoint(path: str | os.PathLike) -> epath.Path:
    """The step directory meant by a run, its `checkpoints` or a step. Raises CheckpointError if there is none."""
    path = _absolute(path)
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
    trees = {name: ocp.PyTreeCheckpointHandler(use_compression=False) for name in ("parameters", "optimizer")}
    return trees | {name: ocp.JsonCheckpointHandler() for name in ("data", "provenance")}


def _restore_as(like: dict) -> ocp.args.PyTreeRestore:
    return ocp.args.PyTreeRestore(like, restore_args=ocp.checkpoint_utils.construct_restore_args(like))


def _absolute(path: str | os.PathLike) -> epath.Path:
    path = os.fspath(path)
    return epath.Path(path if "://" in path else os.path.abspath(path))


def _optimizer_tree(state: TrainState) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(state.opt_state)
    guard = {f"guard/{name}": x for name, x in vars(state.guard).items()}
    return unflatten({"step": state.step} | guard | {f"state/{parameter_path(p)}": x for p, x in leaves})


def _stored(where: epath.Path) -> dict:
    """Nested shapes of a stored tree. Raises CheckpointError if it is not readable."""
    try:
        metadata = ocp.PyTreeCheckpointHandler().metadata(where)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{where} is no readable checkpoint: {error}. {_DAMAGED}") from error
    return metadata.tree


def _require_match(where: epath.Path, stored: dict, wanted: dict) -> None:
    faults = [f"{name}: missing in the checkpoint" for name in wanted if name not in stored]
    faults += [f"{name}: not in this model or stage" for name in stored if name not in wanted]
    for name in wanted.keys() & stored.keys():
        ours, theirs = tuple(wanted[name].shape), tuple(stored[name].shape)
        if ours != theirs:
            faults.append(f"{name}: {list(theirs)} in the checkpoint, {list(ours)} in this run")
    if faults:
        more = [f"… and {len(faults) - _MOST_NAMES} more"] if len(faults) > _MOST_NAMES else []
        raise CheckpointError(
            f"{where} does not fit this run; use the model and stage it was trained with, or another output "
            "directory:\n  " + "\n  ".join(sorted(faults)[:_MOST_NAMES] + more)
        )
