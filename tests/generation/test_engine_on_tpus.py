"""The engine's step compiled for TPUs that are not there, by their real compiler; skipped where libtpu is absent."""

import importlib.util
import re

import pytest

from bagpiper_jax import parallel
from bagpiper_jax.generation.config import EngineConfig, WeightsConfig
from bagpiper_jax.models.configs import AudioTowerConfig, BagpiperConfig, DecoderConfig
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.runs.chips import find_slice
from bagpiper_jax.sizing.devices import tpu_devices
from bagpiper_jax.sizing.engine_step import EngineStep

pytestmark = [
    pytest.mark.slow,
    pytest.mark.optimised,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install 'jax[tpu]'"
    ),
]

# Two layers of the release; everything else as it is.
CONFIG = BagpiperConfig(DecoderConfig(layers=2), AudioTowerConfig(layers=2))
ENGINE = EngineConfig(rows=8, context=16 * 128 - 8)
QUICKLY = {"exec_time_optimization_effort": -1.0}


def compiled_step(topology: str, dtype: str):
    """The step of 8 rows, 8 of them guided, whose dialogues may have 16 pages of 128 slots in a pool of 512."""
    mesh = parallel.make_mesh(MeshConfig(fsdp=1, tensor=4), tpu_devices(find_slice(topology)))
    return EngineStep(CONFIG, ENGINE, WeightsConfig(dtype=dtype), mesh, guided=True).compile(512, QUICKLY)


@pytest.mark.parametrize(
    "topology, dtype",
    [("v5e:2x2", "bfloat16"), ("v5e:2x2", "int8"), ("v6e:2x2", "bfloat16"), ("v5p:2x2x1", "bfloat16")],
)
def test_the_step_runs_jax_s_kernel_in_place(topology, dtype):
    compiled = compiled_step(topology, dtype)
    text = compiled.as_text()
    assert "ragged_paged_attention_kernel" in text
    memory = compiled.memory_analysis()
    pool = 2 * 512 * 128 * 16 * 128 * 2 // 4
    assert memory.alias_size_in_bytes >= pool  # the pool is updated where it lies
    assert not re.search(r"= bf16\[1024,128,4,128\]\S* copy\(", text)
    assert memory.temp_size_in_bytes < pool
    # Matrices in int8 are never written down in bfloat16: not those of both layers, nor of one.
    assert ("s8[2,4096,3072]" in text) is (dtype == "int8")
    written = re.search(r"^\s+\S+ = bf16\[(2,|1,)?4096,3072\]", _outside_fusions(text), re.MULTILINE)
    assert bool(written) is (dtype != "int8")


def _outside_fusions(text: str) -> str:
    """The computations whose results lie in memory."""
    parts = re.split(r"\n\n", text)
    return "\n\n".join(part for part in parts if "fused_computation" not in part.split("\n", 1)[0])
