"""Kernels and steps compiled for TPUs that are not there, by their real compiler; skipped where libtpu is absent."""

import dataclasses
import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from bagpiper_jax import configuration, parallel
from bagpiper_jax.batch import BatchShape
from bagpiper_jax.models.attention.splash import splash
from bagpiper_jax.models.configs import AudioTowerConfig, BagpiperConfig, DecoderConfig
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.runs.chips import SLICES, find_slice
from bagpiper_jax.sizing.collectives import traffic
from bagpiper_jax.sizing.devices import slice_of, tpu_devices
from bagpiper_jax.sizing.plan import PlanConfig, plan, target
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.losses import LossConfig
from bagpiper_jax.training.step import compile_step, make_train_step

QUICKLY = {"optimization_level": 9}
"""XLA's O0, by its number, which every version of JAX takes: a part of the compiler's time. Which tensors travel was
decided before; the same bytes cross between slices."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.optimised,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install 'jax[tpu]'"
    ),
]


def mesh_of(name: str, config: MeshConfig):
    return parallel.make_mesh(config, tpu_devices(find_slice(name)))


@pytest.mark.parametrize("topology, slices", [("v5p:4x4x4", 1), ("v6e:16x16", 1), ("2xv6e:4x4", 2)])
@pytest.mark.parametrize("shared", [MeshConfig(tensor=2), MeshConfig(sequence=2, tensor=4)])
def test_axes_shorter_than_those_of_the_torus_are_laid_along_a_part_of_one(topology, slices, shared):
    mesh = mesh_of(topology, dataclasses.replace(shared, replica=slices))
    assert len(set(mesh.devices.flat)) == mesh.size and mesh.shape["tensor"] == shared.tensor
    assert all(len(set(slice_of(list(one.flat)))) == 1 for one in mesh.devices)


@pytest.mark.parametrize("name", [name for name, named in SLICES.items() if named.topology])
def test_every_named_slice_has_its_chips_and_a_mesh(name):
    named = SLICES[name]
    devices = tpu_devices(named)
    assert len(devices) == named.chips and {device.device_kind for device in devices} == {named.kind}
    assert parallel.make_mesh(MeshConfig(replica=named.slices), devices).size == named.chips


@pytest.mark.parametrize("topology", ["v5e:2x2", "v6e:2x2"])
def test_splash_compiles_forwards_and_backwards_on_a_divided_row(topology):
    mesh = mesh_of(topology, MeshConfig(fsdp=1, sequence=2, tensor=2))

    def objective(query, key, value, segments):
        return splash(query, key, value, segments).astype(jnp.float32).sum()

    def shape(dtype, *sizes):
        return jax.ShapeDtypeStruct(sizes, dtype, sharding=NamedSharding(mesh, P()))

    query, key = shape("bfloat16", 1, 4096, 8, 128), shape("bfloat16", 1, 4096, 2, 128)
    with jax.set_mesh(mesh):
        step = jax.jit(jax.grad(objective, (0, 1, 2)))
        text = step.lower(query, key, key, shape("int32", 1, 4096)).compile().as_text()
    # One kernel forwards, one backwards that computes the gradients of queries, keys and values together.
    assert "splash_mha_fwd" in text and "splash_mha_dkv" in text and "splash_mha_dq" not in text


def test_the_nano_step_compiles():
    config = configuration.build(TrainConfig, ["gin/runs/nano_pretrain.gin"])
    config = dataclasses.replace(config, batch=BatchShape(rows=4, slots=512, chunks=10))
    mesh = mesh_of("v5e:2x2", config.mesh)
    compiled = compile_step(make_train_step(config, mesh), config, mesh)
    assert compiled.memory_analysis().temp_size_in_bytes > 0


def test_the_release_compiles_for_two_slices_and_only_sums_cross_between_them():
    """Two layers of decoder and tower, everything else as it is.

    So much audio that the adaptor's inputs are more than its gradient, as in any real row; else XLA sends those.
    """
    tower = dataclasses.replace(AudioTowerConfig(), layers=2)
    model = BagpiperConfig(
        DecoderConfig(layers=2, attention="splash", remat="attention"), tower, table_multiple=256
    )
    mesh_config = MeshConfig(replica=2, fsdp=4)
    config = TrainConfig(
        "out",
        "lock",
        model=model,
        mesh=mesh_config,
        batch=BatchShape(8, 2048, 40),
        loss=LossConfig(chunk=1024),
    )
    mesh = mesh_of("2xv6e:2x2", mesh_config)
    compiled = compile_step(make_train_step(config, mesh), config, mesh, QUICKLY)
    found = traffic(compiled.as_text(), slice_of(list(mesh.devices.flat)))
    assert found.dcn.keys() == {"all-reduce"}
    # What crosses is the gradient, once, in bfloat16, of which every chip has a fourth.
    gradient = sum(x.size for n, x in shapes(model).items() if not n.startswith("tower/")) / 4
    assert 1.9 * gradient < found.dcn["all-reduce"] < 1.1 * 2 * gradient


@pytest.mark.parametrize(
    "run, synchronous, sent, memory",
    [("v5e_256", 20, 66, 8.5), ("v5p_128", 0.1, 95, 10.5), ("v6e_256", 0.1, 52, 9.2)],
)
def test_with_the_flags_of_its_slice_a_step_computes_while_it_sends(run, synchronous, sent, memory):
    """The whole 8B step, as far as its optimised HLO."""
    config = configuration.build(TrainConfig, [f"gin/runs/pretrain_8b_{run}.gin"])
    found = plan(config, target(PlanConfig(config)), to_hlo=True)
    assert sum(found["synchronous_gib_per_chip"].values()) <= synchronous
    assert 40 < sum(found["collective_gib_per_chip"]["ici"].values()) <= sent
    assert found["hbm_gib_per_chip"]["total"] <= memory
    assert found["compiler_flags"] == list(config.compiler_flags) and found["mfu_bound"] < 1


def shapes(model):
    from bagpiper_jax.training.state import initial_parameters

    return jax.eval_shape(lambda: initial_parameters(model, 0))
