"""The decoder against transformers' Qwen3 and against itself: packing, cache, kernels, remat."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models
from flax import nnx

from bagpiper_jax.interop.tables import qwen3
from bagpiper_jax.models import layers
from bagpiper_jax.models.attention import kernels, xla
from bagpiper_jax.models.attention.paged import PagedCache, empty_pages
from bagpiper_jax.models.configs import BagpiperConfig, DecoderConfig

SHAPES = (
    tiny_models.DECODER,
    DecoderConfig(2, 48, 40, heads=6, kv_heads=2, head_width=8, init_std=0.2, dtype="float32", remat="none"),
    DecoderConfig(1, 24, 64, heads=3, kv_heads=3, head_width=12, init_std=0.3, dtype="float32", remat="full"),
)


def original(config: BagpiperConfig, ours: dict):
    """transformers' Qwen3 with our parameters."""
    transformers = pytest.importorskip("transformers")
    d = config.decoder
    model = transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(
            vocab_size=config.vocabulary.size, hidden_size=d.width, intermediate_size=d.ffn_width,
            num_hidden_layers=d.layers, num_attention_heads=d.heads, num_key_value_heads=d.kv_heads,
            head_dim=d.head_width, rope_theta=d.rope_theta, rms_norm_eps=d.norm_eps, tie_word_embeddings=False,
            max_position_embeddings=32768, attention_bias=False,
        )
    )  # fmt: skip
    return tiny_models.load(model, qwen3.entries({n: x.shape for n, x in ours.items()}), ours)


def run(model, x, positions=None, segments=None):
    rows, slots = x.shape[:2]
    positions = jnp.arange(slots)[None].repeat(rows, 0) if positions is None else positions
    segments = jnp.ones((rows, slots), jnp.int32) if segments is None else segments
    return nnx.jit(lambda m: m.decoder(x, positions, segments)[0])(model)


@pytest.mark.parametrize("decoder", SHAPES)
def test_logits_equal_transformers(decoder):
    import torch

    config = dataclasses.replace(tiny_models.MODEL, decoder=decoder)
    model = tiny_models.random_model(config, seed=decoder.layers)
    tokens = np.random.default_rng(1).integers(1, config.vocabulary.size, (2, 33))
    with torch.no_grad():
        theirs = original(config, tiny_models.parameters(model))(torch.from_numpy(tokens)).logits.numpy()
    ours = model.logits(run(model, model.decoder.embed_tokens[...][tokens]), 0)
    assert np.abs(ours - theirs).max() <= 2e-5 * np.abs(theirs).max()


def test_long_positions_equal_transformers():
    import torch

    model = tiny_models.random_model()
    tokens = np.random.default_rng(2).integers(1, tiny_models.MODEL.vocabulary.size, (1, 20))
    positions = np.arange(20)[None] * 1601
    with torch.no_grad():
        theirs = original(tiny_models.MODEL, tiny_models.parameters(model))(
            torch.from_numpy(tokens), position_ids=torch.from_numpy(positions)
        ).logits.numpy()
    hidden = run(model, model.decoder.embed_tokens[...][tokens], jnp.asarray(positions))
    assert np.abs(model.logits(hidden, 0) - theirs).max() <= 2e-5 * np.abs(theirs).max()


def test_rotary_angles_are_those_of_the_release_to_the_last_bit():
    torch = pytest.importorskip("torch")
    inverse = 1.0 / (1e6 ** (torch.arange(0, 128, 2, dtype=torch.int64).float() / 128))
    positions = np.array([[0, 1, 4097, 32_767]])
    theirs = torch.from_numpy(positions).float()[..., None] * inverse
    ours = layers.rotary_angles(jnp.asarray(positions), 128, 1e6)[:, :, 0]
    off = np.abs(np.asarray(ours) / np.maximum(theirs.numpy(), 1e-30) - 1)[:, 1:]
    assert (
        off == 0
    ).mean() > 0.95 and off.max() < 1.3e-7  # torch's power itself misses the nearest number once


def test_packed_documents_equal_themselves_alone():
    model = tiny_models.random_model()
    x = jax.random.normal(jax.random.key(0), (1, 150, 32))
    lengths = (70, 1, 50, 29)
    segments = jnp.repeat(jnp.array([1, 2, 3, 0]), jnp.array(lengths))[None]
    positions = jnp.concatenate([jnp.arange(n) for n in lengths])[None]
    packed = run(model, x, positions, segments)
    start = 0
    for length in lengths[:3]:
        alone = run(model, x[:, start : start + length])
        np.testing.assert_allclose(packed[:, start : start + length], alone, atol=2e-5)
        start += length
    assert np.isfinite(packed).all()


def test_cache_equals_the_whole_pass_with_ragged_rows():
    model = tiny_models.random_model()
    x = jax.random.normal(jax.random.key(3), (2, 9, 32))
    whole = run(model, x)
    lengths = jnp.array([6, 4])
    tables = jnp.array([[3, 1, 5], [2, 6, 4]])
    cache = PagedCache(empty_pages(tiny_models.DECODER, 7, 4), tables, jnp.zeros(2, jnp.int32), lengths)
    positions = jnp.arange(6)[None].repeat(2, 0)
    hidden, cache = model.decoder(x[:, :6], positions, jnp.ones((2, 6), jnp.int32), cache)
    np.testing.assert_allclose(hidden[1, :4], whole[1, :4], atol=2e-5)
    for fed in range(3):
        slots = (lengths + fed)[:, None]
        step = jnp.take_along_axis(x, slots[..., None], axis=1)
        cache = dataclasses.replace(cache, start=slots[:, 0], count=jnp.ones(2, jnp.int32))
        hidden, cache = model.decoder(step, slots, jnp.ones((2, 1), jnp.int32), cache)
        expected = jnp.take_along_axis(whole, slots[..., None], axis=1)
        np.testing.assert_allclose(hidden, expected, atol=2e-5)


def test_blocks_of_queries_equal_one_block(monkeypatch):
    keys = jax.random.split(jax.random.key(0), 3)
    query, key, value = (jax.random.normal(k, (2, 200, h, 8)) for k, h in zip(keys, (4, 2, 2), strict=True))
    segments = jnp.repeat(jnp.array([1, 2, 0]), jnp.array([90, 80, 30]))[None].repeat(2, 0)
    blocked = xla.dot_product(query, key, value, segments)
    monkeypatch.setattr(xla, "MIN_BLOCK", 200)
    np.testing.assert_allclose(blocked, xla.dot_product(query, key, value, segments), atol=1e-6)
    causal = (segments[:, :, None] == segments[:, None]) & jnp.tril(jnp.ones((200, 200), bool))
    reference = jax.nn.dot_product_attention(query, key, value, mask=causal[:, None])
    np.testing.assert_allclose(blocked, reference, atol=1e-6)


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_remat_changes_no_gradient(remat):
    def gradient(name):
        config = dataclasses.replace(
            tiny_models.MODEL, decoder=dataclasses.replace(tiny_models.DECODER, remat=name)
        )
        graph, state = nnx.split(tiny_models.random_model(config))
        x = jax.random.normal(jax.random.key(0), (1, 12, 32))
        return jax.grad(lambda s: jnp.sum(run(nnx.merge(graph, s), x) ** 2))(state)

    for a, b in zip(jax.tree.leaves(gradient("none")), jax.tree.leaves(gradient(remat)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_bfloat16_stays_within_its_noise():
    config = dataclasses.replace(
        tiny_models.MODEL, decoder=dataclasses.replace(tiny_models.DECODER, dtype="bfloat16")
    )
    x = jax.random.normal(jax.random.key(0), (1, 40, 32))
    exact, rough = run(tiny_models.random_model(), x), run(tiny_models.random_model(config), x)
    assert rough.dtype == jnp.bfloat16
    assert np.abs(rough.astype(jnp.float32) - exact).mean() < 0.03 * np.abs(exact).mean()


def test_a_kernel_that_cannot_run_is_an_error():
    config = dataclasses.replace(
        tiny_models.MODEL, decoder=dataclasses.replace(tiny_models.DECODER, attention="splash")
    )
    model = tiny_models.random_model(config)
    with pytest.raises(RuntimeError, match="splash.*runs on TPUs, not on cpu.*dot_product"):
        run(model, jnp.zeros((1, 128, 32)))
    with pytest.raises(ValueError, match="unknown attention kernel 'flahs'.*dot_product"):
        kernels.kernel("flahs")


def test_unknown_remat_is_an_error():
    config = dataclasses.replace(
        tiny_models.MODEL, decoder=dataclasses.replace(tiny_models.DECODER, remat="some")
    )
    with pytest.raises(ValueError, match="remat policy 'some'"):
        run(tiny_models.random_model(config), jnp.zeros((1, 8, 32)))
