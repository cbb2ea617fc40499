"""Every named kernel against torch's attention of each document alone: heads and gradients, on one device and a mesh.

Kernels that need a GPU are tested where there is one; their plain implementations, with the same masks, everywhere.
"""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bagpiper_jax import parallel
from bagpiper_jax.models.attention import gpu, kernels, sharding, splash, xla
from bagpiper_jax.parallel import MeshConfig

GPU = jax.default_backend() == "gpu"
on_gpu = pytest.mark.skipif(not GPU, reason="needs a GPU")
with_tokamax = pytest.mark.skipif(importlib.util.find_spec("tokamax") is None, reason="needs tokamax")

KERNELS = [
    pytest.param(xla.dot_product, id="dot_product"),
    pytest.param(functools.partial(splash.splash, interpret=True), id="splash, interpreted"),
    pytest.param(
        functools.partial(sharding.on_shards, functools.partial(gpu.masked_shard, "xla")),
        id="mask of cudnn",
    ),
    pytest.param(
        functools.partial(sharding.on_shards, functools.partial(gpu.tokamax_shard, "xla")),
        id="bounds of mosaic and triton",
        marks=with_tokamax,
    ),
    pytest.param(gpu.cudnn, id="cudnn", marks=on_gpu),
    pytest.param(kernels.kernel("mosaic"), id="mosaic", marks=[on_gpu, with_tokamax]),
    pytest.param(kernels.kernel("triton"), id="triton", marks=[on_gpu, with_tokamax]),
]
LENGTHS = ((100, 1, 90, 40), (200, 30))
B, T, H, KV, K = 2, 256, 4, 2, 128


def make_inputs():
    random = np.random.default_rng(0)
    q, g = (random.normal(size=(B, T, H, K)).astype(np.float32) for _ in range(2))
    k, v = (random.normal(size=(B, T, KV, K)).astype(np.float32) for _ in range(2))
    segments = np.zeros((B, T), np.int32)
    for row, lengths in enumerate(LENGTHS):
        segments[row, : sum(lengths)] = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    # What comes out where nothing lies is of no interest.
    return q, k, v, g * (segments != 0)[..., None, None], segments


@functools.cache
def expected():
    """Heads and gradients by torch, one document at a time."""
    import torch

    q, k, v, g, segments = make_inputs()
    leaves = [torch.tensor(x, requires_grad=True) for x in (q, k, v)]
    heads = torch.zeros(q.shape)
    for row, length in np.ndindex(B, 4):
        places = np.flatnonzero(segments[row] == length + 1)
        if not len(places):
            continue
        part = [x[row, places].swapaxes(0, 1)[None] for x in leaves]
        found = torch.nn.functional.scaled_dot_product_attention(*part, is_causal=True, enable_gqa=True)
        heads[row, places] = found[0].swapaxes(0, 1)
    (heads * torch.tensor(g)).sum().backward()
    return heads.detach().numpy(), [x.grad.numpy() for x in leaves]


def check(kernel, mesh=None):
    q, k, v, g, segments = make_inputs()
    dtype = jnp.bfloat16 if GPU else jnp.float32

    def weighed(q, k, v):
        heads = kernel(*(x.astype(dtype) for x in (q, k, v)), segments).astype(jnp.float32)
        return (heads * g).sum(), heads

    step = jax.jit(jax.grad(weighed, (0, 1, 2), has_aux=True))
    if mesh:
        with jax.set_mesh(mesh):
            gradients, heads = step(q, k, v)
    else:
        gradients, heads = step(q, k, v)
    tolerance = 2e-2 if GPU else 2e-5
    wanted, wanted_gradients = expected()
    kept = segments != 0
    np.testing.assert_allclose(np.asarray(heads)[kept], wanted[kept], atol=tolerance)
    for ours, theirs in zip(gradients, wanted_gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("kernel", KERNELS)
def test_packed_documents_attend_as_alone(kernel):
    check(kernel)


MESHES = [MeshConfig(fsdp=2, sequence=2, tensor=2), MeshConfig(replica=2, fsdp=1, tensor=4)]


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
@pytest.mark.parametrize("config", MESHES, ids=["sequence 2, tensor 2", "more shards than key heads"])
@pytest.mark.parametrize("kernel", KERNELS[:3])
def test_on_a_mesh_too(kernel, config):
    check(kernel, parallel.make_mesh(config))


@with_tokamax
def test_bounds_of_keys_do_not_divide_a_row():
    with pytest.raises(ValueError, match="mosaic.*sequence = 1"):
        q, k, v, _, segments = make_inputs()
        gpu.tokamax_shard("mosaic", q[:, :128], k, v, segments[:, :128], segments)


@pytest.mark.parametrize("name", ["splash", "mosaic", "triton", "cudnn"])
def test_a_kernel_of_another_platform_is_an_error(name):
    if GPU and name != "splash":
        pytest.skip("it runs here")
    q, k, v, _, segments = make_inputs()
    wanted = "TPUs" if name == "splash" else "GPUs"
    with pytest.raises(RuntimeError, match=f"'{name}' runs on {wanted}, not on .*dot_product"):
        kernels.kernel(name)(q, k, v, segments)


def test_splash_names_the_sizes_it_does_not_take():
    q, k, v, _, segments = make_inputs()
    with pytest.raises(ValueError, match="multiples of 128, got head_width 64 and 256 slots"):
        splash.splash(q[..., :64], k[..., :64], v[..., :64], segments, interpret=True)


def test_the_kernel_in_use_is_logged(caplog):
    kernels.kernel.cache_clear()
    with caplog.at_level("INFO"):
        kernels.kernel("dot_product")
    assert "attention kernel: dot_product" in caplog.text


@pytest.mark.parametrize("slots", [28, 43])
def test_windows_are_exact_wherever_they_begin(slots):
    """Blocks of 7 slots, windows of 1 to 7 anywhere, some slots not to be heard."""
    random = np.random.default_rng(slots)
    windows = np.repeat(np.arange(1, slots + 1), random.integers(1, 8, slots))[:slots][None]
    heard = np.where(random.random((1, slots)) < 0.8, windows, -1)
    q, k, v = (random.normal(size=(1, slots, 2, 4)).astype(np.float32) for _ in range(3))
    mask = windows[:, :, None] == heard[:, None, :]
    whole = jax.jit(xla.masked_attention)(q, k, v, mask)
    blocks = jax.jit(xla.windowed, static_argnums=5)(q, k, v, windows, heard, 7)
    sees = mask.any(-1)
    np.testing.assert_allclose(blocks[sees], whole[sees], atol=1e-6)
    assert np.isfinite(blocks).all()
