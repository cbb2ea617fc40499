"""The whole model: embedding rules, features in their slots, heads of the streams, initialisation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models
from flax import nnx

from bagpiper_jax.models.bagpiper import Bagpiper, embed_streams


@pytest.fixture(scope="module")
def model():
    return tiny_models.random_model()


def test_embedding_sums_streams_and_drops_token_zero_of_all_but_stream_zero(model):
    table = np.asarray(model.decoder.embed_tokens[...])
    tokens = np.zeros((1, 3, 8), np.int32)
    tokens[0, 1, 0], tokens[0, 1, 4] = 5, 300
    tokens[0, 2, 1:] = np.arange(300, 307)
    x = np.asarray(model.embed(jnp.asarray(tokens)))[0]
    np.testing.assert_allclose(
        x[0], table[0]
    )  # noise, but not nothing (docs/reference.md, Embedding and head)
    np.testing.assert_allclose(x[1], table[5] + table[300], rtol=1e-6)
    np.testing.assert_allclose(x[2], table[0] + table[300:307].sum(0), rtol=1e-5, atol=1e-6)


def test_embedding_gradient_is_that_of_torch_with_padding_idx():
    import torch

    random = np.random.default_rng(0)
    table, upstream = random.normal(size=(50, 4)), random.normal(size=(2, 7, 4))
    tokens = random.integers(0, 50, (2, 7, 8)) * random.integers(0, 2, (2, 7, 8))
    weight = torch.from_numpy(table).requires_grad_()
    embedded = torch.nn.functional.embedding(torch.from_numpy(tokens), weight, padding_idx=0)
    embedded = embedded * torch.from_numpy((tokens != 0) | (np.arange(8) == 0))[..., None]
    (embedded.sum(-2) * torch.from_numpy(upstream)).sum().backward()
    loss = lambda t: jnp.sum(embed_streams(t, jnp.asarray(tokens)) * upstream)  # noqa: E731
    ours = jax.grad(loss)(jnp.asarray(table, jnp.float32))
    np.testing.assert_allclose(ours, weight.grad, atol=1e-5)
    assert not ours[0].any()


def test_features_overwrite_their_slots_and_no_others(model):
    batch = tiny_models.random_batch(rows=2)
    embedded, inputs = model.embed(batch.tokens), model.inputs(batch)
    features = model.audio_features(batch.mel, batch.chunk_frames, batch.chunk_clip, batch.chunk_window)
    for row, slot in np.ndindex(batch.audio_slot.shape):
        index = int(batch.audio_slot[row, slot])
        expected = features[row, index] if index >= 0 else embedded[row, slot]
        np.testing.assert_allclose(inputs[row, slot], expected, atol=1e-5)


def test_a_batch_without_chunks_is_text_only(model):
    batch = tiny_models.random_batch(rows=1)
    none = {
        name: getattr(batch, name)[:, :0] for name in ("mel", "chunk_frames", "chunk_clip", "chunk_window")
    }
    batch = dataclasses.replace(batch, audio_slot=jnp.full_like(batch.audio_slot, -1), **none)
    np.testing.assert_array_equal(model.inputs(batch), model.embed(batch.tokens))


def test_heads_of_the_streams(model):
    hidden = jax.random.normal(jax.random.key(0), (2, 32))
    head, vocabulary = np.asarray(model.lm_head[...]), tiny_models.MODEL.vocabulary
    np.testing.assert_allclose(model.logits(hidden, 0), hidden @ head.T, atol=1e-4)
    shifted = hidden + model.stream_emb[...][3]
    np.testing.assert_allclose(model.logits(hidden, 3), shifted @ head[vocabulary.codec_start :].T, atol=1e-4)
    assert model.logits(hidden.astype(jnp.bfloat16), 1).dtype == jnp.float32


def test_each_packed_document_equals_itself_alone(model):
    batch = tiny_models.random_batch(rows=1)
    hidden = model.hidden(batch)
    first = dataclasses.replace(
        batch,
        **{n: getattr(batch, n)[:, :12] for n in ("tokens", "segment_ids", "positions", "audio_slot")},
    )
    np.testing.assert_allclose(hidden[:, :12], model.hidden(first), atol=2e-5)


def test_initialisation_is_the_references():
    model = Bagpiper(
        dataclasses.replace(
            tiny_models.MODEL, decoder=dataclasses.replace(tiny_models.DECODER, init_std=0.02)
        ),
        rngs=nnx.Rngs(0),
    )
    ours = tiny_models.parameters(model)
    assert not ours["stream_emb"].any() and (ours["decoder/norm"] == 1).all()
    for name in (
        "decoder/embed_tokens",
        "lm_head",
        "decoder/layers/ffn/up",
        "decoder/layers/attention/query",
    ):
        assert abs(ours[name].std() - 0.02) < 0.001, name
    assert np.abs(ours["adaptor/kernel"]).max() <= 24**-0.5 and ours["adaptor/bias"].any()
    up = ours["decoder/layers/ffn/up"]
    assert not np.allclose(up[0], up[1]), "layers must be drawn independently"
