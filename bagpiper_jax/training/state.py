"""What a train step carries, and how it begins."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from bagpiper_jax import parallel
from bagpiper_jax.models.adapters import lora
from bagpiper_jax.models.bagpiper import Bagpiper
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.models.parameters import flatten, shapes_of
from bagpiper_jax.runs.guard import Guard
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.optimizer import make_optimizer
from bagpiper_jax.training.partition import EMBEDDING, Parameters

TABLES = (EMBEDDING, "lm_head")
"""The parameters with one row for each id."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Parameters by path (`decoder/layers/ffn/up`), optimizer state of the trainable ones, and the step.

    Attributes:
        step: int32 [], steps done.
        trainable, frozen: disjoint, together the whole model.
        opt_state: the state of the optimizer that `optimizer.make_optimizer` gives.
        guard: the record by which a step that cannot be trusted is recognised.
    """

    step: Any
    trainable: Parameters
    frozen: Parameters
    opt_state: Any
    guard: Guard

    @property
    def parameters(self) -> Parameters:
        return self.trainable | self.frozen


def initial_parameters(config: BagpiperConfig, seed: int) -> Parameters:
    """Randomly initialised parameters of the model."""
    return flatten(nnx.to_pure_dict(nnx.state(Bagpiper(config, rngs=nnx.Rngs(seed)), nnx.Param)))


def model_shapes(config: BagpiperConfig) -> dict[str, tuple[int, ...]]:
    """Path and shape of every parameter of the model; nothing is allocated."""
    return shapes_of(jax.eval_shape(lambda: initial_parameters(config, 0)))


def model_definition(config: BagpiperConfig) -> nnx.GraphDef:
    """The static part of the model, for `nnx.merge(definition, unflatten(parameters))`."""
    abstract = nnx.eval_shape(lambda: Bagpiper(config, rngs=nnx.Rngs(0)))
    definition, _, others = nnx.split(abstract, nnx.Param, ...)
    if jax.tree.leaves(others):
        raise ValueError(f"the model has state besides its parameters: {sorted(others.flat_state())}")
    return definition


def start_state(config: TrainConfig, parameters: Parameters) -> TrainState:
    """Step 0 from given parameters, whose tables may have other rows beyond the vocabulary than the model's."""
    parameters = parameters | {name: _with_rows(parameters[name], config.model) for name in TABLES}
    if config.adapter:
        parameters = lora.attached(config.adapter, parameters, config.seed)
    trainable, frozen = config.partition.split(parameters)
    return TrainState(
        jnp.int32(0), trainable, frozen, make_optimizer(config.optimizer).init(trainable), Guard.new()
    )


def _with_rows(table: jax.Array, config: BagpiperConfig) -> jax.Array:
    missing = max(config.table_rows - len(table), 0)
    return jnp.pad(table[: config.table_rows], ((0, missing), (0, 0)))


def initial_state(config: TrainConfig) -> TrainState:
    """Step 0 from random parameters."""
    return start_state(config, initial_parameters(config.model, config.seed))


@functools.cache
def abstract_state(config: TrainConfig, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of the state; nothing is allocated."""
    shapes = jax.eval_shape(functools.partial(initial_state, config))
    shardings = parallel.parameter_sharding(mesh, shapes)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)


@functools.cache
def abstract_parameters(config: BagpiperConfig, mesh: Mesh) -> Parameters:
    """Shapes, dtypes and shardings of the parameters alone."""
    shapes = jax.eval_shape(functools.partial(initial_parameters, config, 0))
    shardings = parallel.parameter_sharding(mesh, shapes)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)


def create_state(config: TrainConfig, mesh: Mesh, parameters: Parameters | None = None) -> TrainState:
    """Step 0 from random or from given parameters, every array created on the devices that hold it."""
    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(config, mesh))
    with jax.set_mesh(mesh):
        # It runs once. On a CPU, optimising the random generators would take ten times longer than running them.
        options = {"xla_backend_optimization_level": 0} if parallel.platform() == "cpu" else None
        compiled = functools.partial(jax.jit, out_shardings=shardings, compiler_options=options)
        if parameters is None:
            return compiled(functools.partial(initial_state, config))()
        # An adapter's base fills most of a device: it is not copied.
        given = (0,) if config.adapter else ()
        return compiled(functools.partial(start_state, config), donate_argnums=given)(parameters)


def fitted(parameters: Parameters, config: TrainConfig, mesh: Mesh) -> Parameters:
    """Parameters of another model with tables of as many rows as this run's have."""
    where = parallel.parameter_sharding(mesh, abstract_parameters(config.model, mesh))
    with jax.set_mesh(mesh):
        rows = {
            name: jax.jit(functools.partial(_with_rows, config=config.model), out_shardings=where[name])
            for name in TABLES
        }
        return parameters | {name: fit(parameters[name]) for name, fit in rows.items()}
