"""The train step: one pure function (state, batch) → (state, metrics), compiled over a mesh.

`compile_step` needs shapes only, so a run can be compiled for devices that are not there.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bagpiper_jax import parallel
from bagpiper_jax.batch import Batch, BatchShape
from bagpiper_jax.dialogue import DIRECTIONS
from bagpiper_jax.models.adapters import lora
from bagpiper_jax.runs import compiler_flags
from bagpiper_jax.runs.guard import Guard, judge, keep_unless
from bagpiper_jax.training import history
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.losses import LossSums
from bagpiper_jax.training.objectives import Objective
from bagpiper_jax.training.objectives.next_token import next_token
from bagpiper_jax.training.optimizer import learning_rate, make_optimizer
from bagpiper_jax.training.partition import Parameters
from bagpiper_jax.training.state import TrainState, abstract_state


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepMetrics:
    """What one step reports, global over micro-batches and processes.

    Attributes:
        sums: the sums of the loss, see `LossSums`.
        tokens: [] slots that are no padding.
        gradient_norm: [] norm of the gradient before clipping.
        learning_rate: [] learning rate of this step.
        guard: the guard's record after this step; `guard.in_a_row` is not 0 if it was skipped.
    """

    sums: LossSums
    tokens: jax.Array
    gradient_norm: jax.Array
    learning_rate: jax.Array
    guard: Guard


def make_train_step(config: TrainConfig, mesh: Mesh, objective: Objective | None = None):
    """The jitted step; the state is donated. Call or lower it under `jax.set_mesh(mesh)`.

    Args:
        config: the run.
        mesh: the devices.
        objective: what is minimised; `next_token` of the run by default.
    """
    _check_rows(config, mesh)
    objective, optimizer = objective or next_token(config), make_optimizer(config.optimizer)
    partition = config.partition

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        def loss(trainable: Parameters, rows: tuple[Batch, jax.Array | None]):
            sums = objective(_drawn(config, state.step, trainable | state.frozen, rows[0]), *rows)
            return sums.total, sums

        rows = batch, _seen(config, state.step, batch)
        gradients, sums = _accumulate(jax.grad(loss, has_aux=True), state.trainable, rows, config)
        gradients = jax.tree.map(lambda g: g / jnp.maximum(sums.frames, 1), gradients)
        gradients = partition.masked(gradients, config.model.vocabulary)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.trainable)
        norm = optax.tree.norm(gradients)
        good, guard = judge(state.guard, config.guard, sums.total, norm)
        guard = dataclasses.replace(guard, corrupt=guard.corrupt + batch.corrupt_examples)
        metrics = StepMetrics(
            sums=sums,
            tokens=jnp.sum(batch.segment_ids != 0),
            gradient_norm=norm,
            learning_rate=learning_rate(config.optimizer, state.step),
            guard=guard,
        )
        trainable = keep_unless(good, optax.apply_updates(state.trainable, updates), state.trainable)
        opt_state = keep_unless(good, opt_state, state.opt_state)
        return TrainState(state.step + 1, trainable, state.frozen, opt_state, guard), metrics

    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(config, mesh))
    replicated = NamedSharding(mesh, P())
    return jax.jit(
        train_step,
        in_shardings=(shardings, parallel.batch_sharding(mesh)),
        out_shardings=(shardings, replicated),
        donate_argnums=0,
    )


def make_eval_step(config: TrainConfig, mesh: Mesh, objective: Objective | None = None):
    """The jitted (state, batch) → LossSums; see `make_train_step`."""
    objective = objective or next_token(config)

    def eval_step(state: TrainState, batch: Batch) -> LossSums:
        return objective(state.parameters, batch)

    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(config, mesh))
    replicated = NamedSharding(mesh, P())
    return jax.jit(
        eval_step, in_shardings=(shardings, parallel.batch_sharding(mesh)), out_shardings=replicated
    )


def compile_step(
    step, config: TrainConfig, mesh: Mesh, options: Mapping[str, Any] | None = None
) -> jax.stages.Compiled:
    """Compiles a step ahead of time. The result never recompiles: other shapes or shardings are errors.

    Args:
        options: options of the compiler, beside the run's own.
    """
    chosen = {**compiler_options(config, mesh), **(options or {})}
    with jax.set_mesh(mesh):
        return trace_step(step, config, mesh).lower().compile(compiler_options=chosen)


def compiler_options(config: TrainConfig, mesh: Mesh) -> dict[str, Any]:
    """What the compiler of this mesh's devices is told for a run: on TPUs its flags, else nothing."""
    return compiler_flags.options(config.compiler_flags) if mesh.devices.flat[0].platform == "tpu" else {}


def trace_step(step, config: TrainConfig, mesh: Mesh) -> jax.stages.Traced:
    """A step with the shapes of a run, before it is lowered. Call it under `jax.set_mesh(mesh)`."""
    return step.trace(abstract_state(config, mesh), abstract_batch(config, mesh))


def abstract_batch(config: TrainConfig, mesh: Mesh) -> Batch:
    """Shapes, dtypes and sharding of the global batch."""
    sharding = parallel.batch_sharding(mesh)
    shapes = batch_shapes(config.batch, config.model.vocabulary.num_streams)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)


def batch_shapes(shape: BatchShape, streams: int) -> Batch:
    """The arrays of a Batch as ShapeDtypeStructs."""
    b, t, c = shape.rows, shape.slots, shape.chunks
    slots, chunks = jax.ShapeDtypeStruct((b, t), jnp.int32), jax.ShapeDtypeStruct((b, c), jnp.int32)
    return Batch(
        tokens=jax.ShapeDtypeStruct((b, t, streams), jnp.int32),
        loss_weights=jax.ShapeDtypeStruct((b, t, streams), jnp.float32),
        segment_ids=slots,
        positions=slots,
        direction=slots,
        mel=jax.ShapeDtypeStruct((b, c, 100, shape.mel_bins), jnp.float32),
        chunk_frames=chunks,
        chunk_clip=chunks,
        chunk_window=chunks,
        audio_slot=slots,
    )


def _seen(config: TrainConfig, step: jax.Array, batch: Batch) -> jax.Array | None:
    """The tokens that the model sees, None for the batch's own. A draw of the step alone: it resumes as it was."""
    if config.history_noise == 0:
        return None
    return history.disturb(jax.random.fold_in(jax.random.key(config.seed), step), batch, config.history_noise)


def _drawn(config: TrainConfig, step: jax.Array, parameters: Parameters, rows: Batch) -> Parameters:
    """The parameters, with what dropout draws from: the step and the rows of the micro-batch alone."""
    if not config.adapter or config.adapter.dropout == 0:
        return parameters
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    return lora.with_draw(parameters, jax.random.fold_in(key, jnp.sum(rows.tokens).astype(jnp.uint32)))


def _accumulate(
    gradient, trainable: Parameters, batch: tuple[Batch, jax.Array | None], config: TrainConfig
) -> tuple[Parameters, LossSums]:
    """Sums of gradients and losses over the micro-batches; nothing is divided here."""
    count = config.accumulation
    if count == 1:
        return gradient(trainable, batch)

    # Rows r, r+count, … go together: each device's own rows are divided, so no row moves.
    def divide(x):
        return jnp.moveaxis(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 1, 0)

    def add_micro_batch(total, rows):
        return jax.tree.map(jnp.add, total, gradient(trainable, rows)), None

    # Not by jax.eval_shape(gradient, …): that traces the whole model once more.
    no_sums = LossSums.zeros(config.model.vocabulary.num_streams, len(DIRECTIONS))
    zeros = jax.tree.map(jnp.zeros_like, trainable), no_sums
    return jax.lax.scan(add_micro_batch, zeros, jax.tree.map(divide, batch))[0]


def _check_rows(config: TrainConfig, mesh: Mesh) -> None:
    shards = parallel.shards(mesh, "batch")
    rows = config.batch.rows // config.accumulation
    if rows % shards:
        raise parallel.MeshError(
            f"{rows} rows per micro-batch do not divide over {shards} data shards of the mesh; "
            "change batch.rows, accumulation or mesh"
        )
