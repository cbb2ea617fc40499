"""One device or eight: the same numbers, the table's shardings, clear refusals."""

import dataclasses
import logging
import types
from typing import NamedTuple

import jax
import numpy as np
import pytest
import tiny_models
from flax import nnx
from jax.sharding import PartitionSpec as P

from bagpiper_jax import parallel
from bagpiper_jax.models.bagpiper import Bagpiper
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.parallel import MeshConfig, processes
from bagpiper_jax.parallel import mesh as mesh_module


def test_forward_and_gradient_agree_between_one_device_and_eight():
    graph, state = nnx.split(tiny_models.random_model())
    batch = tiny_models.random_batch()
    direction = jax.random.normal(jax.random.key(0), (8, 24, 32))

    def objective(state, batch):
        hidden = nnx.merge(graph, state).hidden(batch)
        return (hidden * direction).sum(), hidden

    step = jax.grad(objective, has_aux=True)
    gradient, alone = jax.jit(step)(state, batch)
    mesh = parallel.make_mesh(MeshConfig(fsdp=4, tensor=2))
    shardings = parallel.parameter_sharding(mesh, state)
    with jax.set_mesh(mesh):
        placed = jax.device_put((state, batch), (shardings, parallel.batch_sharding(mesh)))
        spread_gradient, spread = jax.jit(step, out_shardings=(shardings, None))(*placed)
    assert np.abs(alone - spread).max() <= 1e-5 * np.abs(alone).max()
    # The gradient of a key bias is zero but for rounding, hence the floor.
    floor = 1e-6 * max(np.abs(x).max() for x in jax.tree.leaves(gradient))
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(spread_gradient), strict=True):
        assert np.abs(a - np.asarray(b)).max() <= 2e-5 * np.abs(a).max() + floor


def test_parameters_of_the_release_are_all_in_the_table(caplog):
    abstract = nnx.state(nnx.eval_shape(lambda: Bagpiper(BagpiperConfig(), rngs=nnx.Rngs(0))))
    mesh = parallel.make_mesh(MeshConfig(fsdp=4, tensor=2))
    with caplog.at_level(logging.WARNING):
        shardings = parallel.parameter_sharding(mesh, abstract)
    assert not caplog.records
    leaves = jax.tree_util.tree_flatten_with_path(shardings)[0]
    specs = {parallel.parameter_path(path): leaf.spec for path, leaf in leaves}
    assert specs["decoder/embed_tokens"] == specs["lm_head"] == P("tensor", "fsdp")
    assert specs["decoder/layers/attention/query"] == P(None, "fsdp", "tensor", None)
    assert specs["decoder/layers/ffn/down"] == P(None, "tensor", "fsdp")
    held = {
        parallel.parameter_path(path): np.prod(sharding.shard_shape(leaf.shape)) / leaf.size
        for (path, leaf), (_, sharding) in zip(
            jax.tree_util.tree_flatten_with_path(abstract)[0], leaves, strict=True
        )
        if leaf.size > 10_000_000
    }
    assert held and all(share <= 1 / 4 for share in held.values()), held


def test_optimizer_moments_follow_their_parameters():
    mesh = parallel.make_mesh(MeshConfig(fsdp=4, tensor=2))
    moments = {
        "0": {
            "mu": {"decoder/embed_tokens": jax.ShapeDtypeStruct((64, 32), "float32")},
            "count": np.zeros(()),
        }
    }
    shardings = parallel.parameter_sharding(mesh, moments)
    assert shardings["0"]["mu"]["decoder/embed_tokens"].spec == P("tensor", "fsdp")
    assert shardings["0"]["count"].spec == P()


def test_an_axis_that_does_not_divide_stays_whole_with_a_warning(caplog):
    mesh = parallel.make_mesh(MeshConfig(fsdp=4, tensor=2))
    with caplog.at_level(logging.WARNING):
        tree = {"lm_head": jax.ShapeDtypeStruct((63, 32), "float32"), "strange": np.zeros((2, 2))}
        shardings = parallel.parameter_sharding(mesh, tree)
    assert shardings["lm_head"].spec == P(None, "fsdp") and shardings["strange"].spec == P()
    assert "lm_head: axis 'vocab' of 63 does not divide" in caplog.text
    assert "strange: no rule" in caplog.text


def test_mesh_axes_must_multiply_to_the_devices():
    assert dict(parallel.make_mesh(MeshConfig(replica=2, tensor=2)).shape) == {
        "replica": 2,
        "fsdp": 2,
        "sequence": 1,
        "tensor": 2,
    }
    for wrong in (MeshConfig(fsdp=3), MeshConfig(tensor=16), MeshConfig(replica=-1, fsdp=-1)):
        with pytest.raises(ValueError, match="does not fit 8 devices"):
            parallel.make_mesh(wrong)


def test_only_replicas_span_tpu_slices(monkeypatch):
    class Device(NamedTuple):
        slice_index: int
        platform: str = "tpu"

    monkeypatch.setattr(mesh_module.mesh_utils, "create_hybrid_device_mesh", lambda *shapes: shapes[:2])
    monkeypatch.setattr(mesh_module, "Mesh", lambda shapes, axes, axis_types: shapes)
    devices = [Device(0)] * 4 + [Device(1)] * 4
    within, between = parallel.make_mesh(MeshConfig(replica=4), devices)
    assert within == (2, 2, 1, 1) and between == (2, 1, 1, 1)
    with pytest.raises(ValueError, match="replica 1 is no multiple of the 2 slices"):
        parallel.make_mesh(MeshConfig(), devices)


def test_slots_that_do_not_divide_are_an_error():
    mesh = parallel.make_mesh(MeshConfig(fsdp=4, sequence=2))
    with jax.set_mesh(mesh):
        assert parallel.slot_spec(np.zeros((8, 6, 3))) == P("fsdp", "sequence")
        for shape, axis in (((8, 7), "slots of 7"), ((6, 8), "batch of 6")):
            with pytest.raises(ValueError, match=f"{axis} does not divide by . shards"):
                parallel.slot_spec(np.zeros(shape))


def test_without_a_mesh_nothing_is_constrained():
    x = np.ones((3, 4))
    assert parallel.constrain(x, "batch", "activation") is x and parallel.slot_spec(x) is None


def test_the_rule_table_is_small():
    assert len(parallel.RULES) <= 12
    assert {axis for _, axes in parallel.PARAMETER_AXES for axis in axes} <= parallel.RULES.keys()
    assert dataclasses.is_dataclass(MeshConfig)


@pytest.mark.parametrize(
    "rows_of_processes, shares",
    [
        ([{0, 1}, {2, 3}], [(0, 2), (1, 2)]),
        ([{2, 3}, {0, 1}], [(1, 2), (0, 2)]),
        ([{0}, {0}, {1}, {1}], [(0, 2), (0, 2), (1, 2), (1, 2)]),
        ([{0, 2}, {1, 3}], [(0, 2), (1, 2)]),
        ([{0, 1}, {1, 2}], None),
        ([{0}, {1, 2}], None),
    ],
)
def test_process_share(monkeypatch, rows_of_processes, shares):
    """Rows of each process's devices → its share of a batch; processes of one tensor group have the same."""

    class Device(NamedTuple):
        process_index: int
        id: int

    class Sharding:
        def devices_indices_map(self, shape):
            return {
                Device(process, row): (slice(row, row + 1),)
                for process, rows in enumerate(rows_of_processes)
                for row in rows
            }

    mesh = types.SimpleNamespace(
        shape={"replica": 1, "fsdp": len(set.union(*rows_of_processes)), "tensor": 1}
    )
    monkeypatch.setattr(processes, "batch_sharding", lambda _: Sharding())
    for process in range(len(rows_of_processes)):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        if shares is None:
            with pytest.raises(ValueError, match="overlapping|unequal"):
                parallel.process_share(mesh)
        else:
            assert parallel.process_share(mesh) == shares[process]
