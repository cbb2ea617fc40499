"""Checkpoints through Orbax: everything a run needs to continue, saved in the background.

    <directory>/<step>/parameters   every parameter of the model, by its path
                       optimizer    optimizer state of the trainable ones, and the step
                       data         position of the loader, JSON
                       provenance   operative gin and environment, JSON

Orbax makes a checkpoint visible only once it is complete; one torn by a crash is reported and removed at the next
start. Trees are stored as nested dicts named like the parameters, so files need none of our classes to be read.
"""

import contextlib
import logging
import os
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from bagpiper_jax.parallel import parameter_path
from bagpiper_jax.training.freezing import Parameters
from bagpiper_jax.training.state import TrainState, flatten, unflatten

_log = logging.getLogger(__name__)

_MOST_NAMES = 12


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or does not fit; the message names directory and remedy."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: where they are, local or a bucket; created if missing.
        keep: newest complete checkpoints kept.
    """

    def __init__(self, directory: str | os.PathLike, keep: int = 3):
        self.directory = _absolute(directory)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        with self._explained("open"):
            self._remove_torn()
            self._manager = ocp.CheckpointManager(self.directory, options=options)

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def save(self, state: TrainState, data: dict, provenance: dict) -> None:
        """Starts saving; returns when the state is copied to the host, so its buffers may be donated.

        Raises:
            CheckpointError: this or the previous save failed.
        """
        with self._explained("write"):
            self._manager.save(
                int(state.step),
                args=ocp.args.Composite(
                    parameters=ocp.args.StandardSave(unflatten(state.parameters)),
                    optimizer=ocp.args.StandardSave(_optimizer_tree(state)),
                    data=ocp.args.JsonSave(data),
                    provenance=ocp.args.JsonSave(provenance),
                ),
                force=True,
            )

    def check(self) -> None:
        """Raises CheckpointError if a save in the background has failed."""
        with self._explained("write"):
            self._manager.check_for_errors()

    def wait(self) -> None:
        """Waits for the save in the background. Raises CheckpointError if it failed."""
        with self._explained("write"):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

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
        with self._explained("read"):
            items = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    parameters=ocp.args.StandardRestore(unflatten(like.parameters)),
                    optimizer=ocp.args.StandardRestore(optimizer),
                    data=ocp.args.JsonRestore(),
                ),
            )
        parameters, moments = flatten(items.parameters), flatten(items.optimizer)
        paths, structure = jax.tree_util.tree_flatten_with_path(like.opt_state)
        opt_state = structure.unflatten([moments[f"state/{parameter_path(path)}"] for path, _ in paths])
        trainable = {name: parameters[name] for name in like.trainable}
        frozen = {name: parameters[name] for name in like.frozen}
        return TrainState(moments["step"], trainable, frozen, opt_state), items.data

    def close(self) -> None:
        self._manager.close()

    def _remove_torn(self) -> None:
        if not self.directory.exists() or jax.process_index():
            return
        for entry in sorted(self.directory.iterdir()):
            if ocp.utils.is_tmp_checkpoint(entry):
                _log.warning("%s was never completed (a crash or kill while saving); removing it", entry)
                entry.rmtree()

    @contextlib.contextmanager
    def _explained(self, verb: str):
        try:
            yield
        except Exception as error:  # TensorStore reports a full disk as ValueError or XlaRuntimeError too
            complete = getattr(self, "_manager", None) and self._manager.latest_step()
            raise CheckpointError(
                f"cannot {verb} checkpoint in {self.directory}: {error}. Last complete checkpoint: "
                f"{'none' if complete is None else f'step {complete}'}. Free space or permissions there, or "
                "choose another output directory, and run the same command again to continue"
            ) from error


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


def _absolute(path: str | os.PathLike) -> epath.Path:
    path = os.fspath(path)
    return epath.Path(path if "://" in path else os.path.abspath(path))


def _optimizer_tree(state: TrainState) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(state.opt_state)
    return unflatten({"step": state.step} | {f"state/{parameter_path(p)}": leaf for p, leaf in leaves})


def _stored(where: epath.Path) -> dict:
    """Nested shapes of a stored tree. Raises CheckpointError if it is not readable."""
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            metadata = checkpointer.metadata(where)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{where} is no readable checkpoint: {error}") from error
    return getattr(metadata, "item_metadata", metadata).tree


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
