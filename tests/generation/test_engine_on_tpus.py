"""The engine's step compiled for TPUs that are not there, by their real compiler; skipped where libtpu is absent."""

import importlib.util
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from bagpiper_jax import parallel
from bagpiper_jax.generation import sampling
from bagpiper_jax.generation.programs import programs
from bagpiper_jax.generation.rows import as_orders, as_rows
from bagpiper_jax.models.attention.paged import page_shape
from bagpiper_jax.models.bagpiper import Bagpiper
from bagpiper_jax.models.configs import AudioTowerConfig, BagpiperConfig, DecoderConfig
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.runs.chips import find_slice
from bagpiper_jax.sizing.devices import tpu_devices

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install 'jax[tpu]'"
    ),
]

# Two layers of the release; everything else as it is.
CONFIG = BagpiperConfig(DecoderConfig(layers=2), AudioTowerConfig(layers=2))
QUICKLY = {"exec_time_optimization_effort": -1.0}


def compiled_step(topology: str, width: int, rows: int = 8):
    """The step of 8 rows, 8 of them guided, whose dialogues may have `width` pages of 128 slots in a pool of 512."""
    mesh = parallel.make_mesh(MeshConfig(fsdp=1, tensor=4), tpu_devices(find_slice(topology)))
    abstract = nnx.eval_shape(lambda: Bagpiper(CONFIG, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(abstract)
    leaves, tree = jax.tree.flatten(state)
    layers, page, kv, head = page_shape(CONFIG.decoder, 128)
    pool = jax.ShapeDtypeStruct((layers * 512, page, kv, head), jnp.bfloat16)
    shardings = jax.tree.leaves(parallel.parameter_sharding(mesh, state))

    def replicated(tree):
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, P())), tree
        )

    with jax.set_mesh(mesh):
        leaves = [
            jax.ShapeDtypeStruct(x.shape, jnp.bfloat16, sharding=s)
            for x, s in zip(leaves, shardings, strict=True)
        ]
        pool = jax.ShapeDtypeStruct(
            pool.shape, pool.dtype, sharding=NamedSharding(mesh, P(None, None, "tensor"))
        )
        heads = replicated(jax.eval_shape(lambda state: sampling.heads(nnx.merge(graph, state)), state))
        orders = replicated(as_orders([], rows, np.zeros((2 * rows, width), np.int32)))
        begun = replicated(as_rows([], rows, CONFIG.vocabulary.num_streams))
        number = replicated(np.int32(0))
        step = programs(graph, tree, layers).advance
        return step.lower(leaves, heads, pool, begun, orders, number, number, most=8).compile(QUICKLY)


@pytest.mark.parametrize("topology", ["v5e:2x2", "v6e:2x2", "v5p:2x2x1"])
def test_the_step_runs_jax_s_kernel_in_place(topology):
    compiled = compiled_step(topology, width=16)
    text = compiled.as_text()
    assert "ragged_paged_attention_kernel" in text
    memory = compiled.memory_analysis()
    pool = 2 * 512 * 128 * 16 * 128 * 2 // 4
    assert memory.alias_size_in_bytes >= pool  # the pool is updated where it lies
    assert not re.search(r"= bf16\[1024,128,4,128\]\S* copy\(", text)
    assert memory.temp_size_in_bytes < pool
