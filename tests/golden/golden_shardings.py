"""Writes how the 8B run lies on a mesh of every axis to tests/golden/: `golden_shardings.py`.

First each parameter and optimizer moment, then what the step says about activations, in the order of its jaxpr:
constraints, and the parts that kernels, loss and embedding work on.
"""

from collections.abc import Iterator

import jax
from jax.sharding import AbstractMesh, AxisType
from places import GOLDEN

from bagpiper_jax.batch import BatchShape
from bagpiper_jax.models.configs import BagpiperConfig, DecoderConfig
from bagpiper_jax.parallel import MESH_AXES, parameter_path
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.objectives.next_token import next_token
from bagpiper_jax.training.state import abstract_state
from bagpiper_jax.training.step import batch_shapes

SHARDINGS = GOLDEN / "shardings_8b.txt"
COMMAND = "PYTHONPATH=tests/helpers python tests/golden/golden_shardings.py"
SIZES = (2, 8, 2, 2)
MESH = AbstractMesh(SIZES, MESH_AXES, axis_types=(AxisType.Auto,) * len(SIZES))
# The plain kernel, which any machine can trace, is divided as the others are.
MODEL = BagpiperConfig(DecoderConfig(attention="dot_product"), table_multiple=256)
CONFIG = TrainConfig(
    "out", "lock", model=MODEL, batch=BatchShape(rows=16, slots=8192, chunks=64), stage="pretrain"
)


def dump() -> str:
    """The golden text."""
    lines = [f"mesh {dict(MESH.shape)}", ""]
    state = abstract_state(CONFIG, MESH)
    parts = {name: getattr(state, name) for name in ("trainable", "frozen", "opt_state")}
    for path, leaf in jax.tree_util.tree_leaves_with_path(parts):
        lines.append(f"{parameter_path(path)} {leaf.dtype}{list(leaf.shape)} {_spec(leaf.sharding.spec)}")
    lines += ["", *_counted(_annotations(_step_jaxpr(state)))]
    return "\n".join(lines) + "\n"


def _step_jaxpr(state):
    loss = next_token(CONFIG)

    def objective(trainable, frozen, batch):
        return loss(trainable | frozen, batch).total

    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state.trainable, state.frozen))
    with jax.sharding.use_abstract_mesh(MESH):
        batch = batch_shapes(CONFIG.batch, MODEL.vocabulary.num_streams)
        return jax.make_jaxpr(jax.grad(objective))(*shapes, batch).jaxpr


def _annotations(jaxpr) -> Iterator[str]:
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "sharding_constraint":
            yield f"constraint {_array(equation.outvars[0])} {_spec(parameters['sharding'].spec)}"
        if name == "shard_map":
            for kind, variables in (("in", equation.invars), ("out", equation.outvars)):
                for variable, spec in zip(variables, parameters[f"{kind}_specs"], strict=True):
                    # What autodiff keeps of a part for its backward pass is of no interest.
                    if tuple(spec) == (MESH_AXES,):
                        continue
                    yield f"per shard, {kind} {_array(variable)} {_spec(spec)}"
        for inner in jax.tree.leaves(list(parameters.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from _annotations(inner)


def _array(variable) -> str:
    return f"{variable.aval.dtype}{list(variable.aval.shape)}"


def _spec(spec) -> str:
    return "(" + ", ".join(str(axes) for axes in spec) + ")"


def _counted(lines: Iterator[str]) -> list[str]:
    """Neighbours that are equal become one line."""
    counted: list[list] = []
    for line in lines:
        if counted and counted[-1][0] == line:
            counted[-1][1] += 1
        else:
            counted.append([line, 1])
    return [line if times == 1 else f"{line} × {times}" for line, times in counted]


if __name__ == "__main__":
    SHARDINGS.write_text(dump(), encoding="utf-8")
