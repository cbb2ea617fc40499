"""How a run is laid out: the golden dump, and what the devices of a compiled step send each other."""

import re

import golden_shardings
import jax
import numpy as np
import pytest
from training_helpers import CONFIG, MODEL, make_batch, with_

from bagpiper_jax import parallel
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.sizing.collectives import KINDS
from bagpiper_jax.training.state import TABLES, abstract_state, create_state, initial_parameters
from bagpiper_jax.training.step import compile_step, make_train_step

# Text and codec rows, and those of the tables, are numbers that no other axis of the step has.
PADDED = MODEL.with_tables(128)
COLLECTIVES = "|".join(KINDS)
EVERY_AXIS = with_(model=PADDED, mesh=MeshConfig(fsdp=2, sequence=2, tensor=2))


def test_the_golden_dump_is_up_to_date():
    assert golden_shardings.dump() == golden_shardings.SHARDINGS.read_text(encoding="utf-8"), (
        f"shardings changed; if that was meant: {golden_shardings.COMMAND}"
    )


def test_all_that_is_large_is_divided():
    """Of the 8B run on the golden mesh, moments too: no optimizer state is replicated but between replicas."""
    sizes = golden_shardings.MESH.shape
    data = sizes["fsdp"] * sizes["sequence"]
    state = abstract_state(golden_shardings.CONFIG, golden_shardings.MESH)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        parts = leaf.size // np.prod(leaf.sharding.shard_shape(leaf.shape))
        # The tower's ends have no axis for tensor parallelism; biases and norms are whole.
        least = data * sizes["tensor"] if leaf.size > 10_000_000 else data if leaf.size > 250_000 else 1
        assert parts >= least, parallel.parameter_path(path)


@pytest.fixture(scope="module")
def every_axis():
    mesh = parallel.make_mesh(EVERY_AXIS.mesh)
    return mesh, compile_step(make_train_step(EVERY_AXIS, mesh), EVERY_AXIS, mesh)


def steps(config, mesh, step, parameters):
    """Loss and gradient norm of three steps, and the state after them."""
    state, found = create_state(config, mesh, parameters), []
    for seed in (0, 0, 1):
        state, metrics = step(state, jax.device_put(make_batch(seed), parallel.batch_sharding(mesh)))
        found += [float(metrics.sums.total / metrics.sums.frames), float(metrics.gradient_norm)]
    return found, state


def test_every_axis_at_once_agrees_with_one_device(every_axis):
    """Rows, slots, heads and vocabulary divided, tables padded, against the plain step: float32, 1e-5."""
    parameters = initial_parameters(MODEL, 0)
    alone = parallel.make_mesh(CONFIG.mesh, jax.devices()[:1])
    expected, before = steps(
        CONFIG, alone, compile_step(make_train_step(CONFIG, alone), CONFIG, alone), parameters
    )
    found, after = steps(EVERY_AXIS, *every_axis, parameters)
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    rows = MODEL.vocabulary.size
    for name in TABLES:
        ours, theirs = np.asarray(after.trainable[name]), np.asarray(before.trainable[name])
        assert len(ours) == PADDED.table_rows and not ours[rows:].any()
        # Adam's first steps are of the size of the rate whatever the gradient, hence the absolute tolerance.
        assert np.mean(np.abs(ours[:rows] - theirs) > 1e-4) < 1e-3


def test_no_logit_leaves_its_device(every_axis):
    vocabulary = MODEL.vocabulary
    wide = {vocabulary.size, PADDED.table_rows, vocabulary.codec_start, vocabulary.codec_size}
    wide |= {n // 2 for n in wide}
    sent = re.findall(rf"= (.*?) (?:{COLLECTIVES})(?:-start)?\(", every_axis[1].as_text())
    shapes = [tuple(map(int, s.split(","))) for text in sent for s in re.findall(r"\[([\d,]+)\]", text)]
    assert shapes
    # Whatever is as wide as a vocabulary has two axes at most: a table, or the bias of each stream.
    assert not [s for s in shapes if len(s) > 2 and s[-1] in wide]


def test_tables_travel_once_a_step(every_axis):
    """Not once a chunk of the loss, though each chunk needs the head and adds to its gradient."""
    rows = {PADDED.table_rows, MODEL.vocabulary.codec_start, MODEL.vocabulary.codec_size}
    rows |= {n // 2 for n in rows}
    gathers, once = 0, False
    for line in every_axis[1].as_text().splitlines():
        if line.endswith("{") and not line.startswith(" "):
            once = line.startswith("ENTRY")  # a loop's body is a computation of its own
        if found := re.search(rf"= (.*?) ({COLLECTIVES})(?:-start)?\(", line):
            shapes = [set(map(int, shape)) for shape in re.findall(r"\[(\d+),(\d+)\]", found[1])]
            if any(shape & rows and shape & {8, 16, 32} for shape in shapes):  # the head lies as [D, V]
                assert once, line[:200]
                gathers += found[2] == "all-gather"
    assert gathers >= 3, "embedding, text rows and codec rows of the head"
