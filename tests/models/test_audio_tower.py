"""The audio tower against transformers' Qwen3-Omni encoder on ragged lengths."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny_models
from flax import nnx

from bagpiper_jax.interop.tables import tower as names
from bagpiper_jax.models import audio_tower
from bagpiper_jax.models.audio_tower import halved

LENGTHS = (1, 7, 8, 9, 50, 99, 100, 101, 799, 800, 801, 1637, 3000)


def original(config, ours):
    modeling = pytest.importorskip("transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe")
    from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeAudioEncoderConfig

    model = modeling.Qwen3OmniMoeAudioEncoder(
        Qwen3OmniMoeAudioEncoderConfig(
            num_mel_bins=config.mel_bins, encoder_layers=config.layers, encoder_attention_heads=config.heads,
            encoder_ffn_dim=config.ffn_width, d_model=config.width, output_dim=config.output_width,
            downsample_hidden_size=config.conv_channels, n_window=50, n_window_infer=100 * config.window_chunks,
        )
    )  # fmt: skip
    return tiny_models.load(model, names.entries({n: x.shape for n, x in ours.items()}), ours)


def tokens_of(frames: int) -> int:
    tail = frames % 100
    return frames // 100 * 13 + halved(halved(halved(tail)))


def features(model, clips):
    """Our features of each clip, all of them in one row, with two chunks of padding."""
    window = model.config.tower.window_chunks
    batch = tiny_models.chunked(clips, window, spare=2)
    result = np.asarray(nnx.jit(lambda m: m.tower(**batch))(model))[0].reshape(-1, 13, result_width(model))
    rows, chunk = [], 0
    for clip in clips:
        chunks = -(-len(clip) // 100)
        rows.append(result[chunk : chunk + chunks].reshape(-1, result.shape[-1])[: tokens_of(len(clip))])
        chunk += chunks
    return rows


def result_width(model) -> int:
    return model.config.tower.output_width


def alone(original_model, clip):
    import torch

    with torch.no_grad():
        mel = torch.from_numpy(clip.T.astype(np.float32))
        return original_model(mel, feature_lens=torch.tensor([len(clip)])).last_hidden_state.numpy()


def make(seed, **changes):
    config = dataclasses.replace(tiny_models.MODEL, tower=dataclasses.replace(tiny_models.TOWER, **changes))
    model = tiny_models.random_model(config, seed)
    random = np.random.default_rng(seed)
    clips = [random.normal(size=(n, config.tower.mel_bins)) for n in LENGTHS]
    return model, original(config.tower, tiny_models.parameters(model)), clips


@pytest.mark.parametrize(
    "seed, changes", [(0, {}), (1, {"window_chunks": 2, "mel_bins": 128, "conv_channels": 3})]
)
def test_every_clip_of_a_row_equals_the_original_on_that_clip_alone(seed, changes):
    model, theirs, clips = make(seed, **changes)
    for clip, ours in zip(clips, features(model, clips), strict=True):
        expected = alone(theirs, clip)
        assert ours.shape == expected.shape, len(clip)
        assert np.abs(ours - expected).max() <= 2e-5 * np.abs(expected).max(), len(clip)


def test_a_ragged_batch_equals_the_original_from_one_second_on():
    import torch

    model, theirs, clips = make(2)
    with torch.no_grad():
        mel = torch.from_numpy(np.concatenate(clips).T.astype(np.float32))
        together = theirs(mel, feature_lens=torch.tensor(LENGTHS)).last_hidden_state.numpy()
    start = 0
    for clip, ours in zip(clips, features(model, clips), strict=True):
        expected = together[start : start + len(ours)]
        start += len(ours)
        if len(clip) >= 100:
            assert np.abs(ours - expected).max() <= 2e-5 * np.abs(expected).max(), len(clip)


def test_padding_and_neighbours_change_nothing():
    model, _, clips = make(3)
    few = [clips[4], clips[7], clips[0]]
    changed = [clips[4], clips[7] * 2, clips[0]]
    for index in (0, 2):
        np.testing.assert_array_equal(features(model, few)[index], features(model, changed)[index])


def test_features_of_padding_chunks_are_finite():
    model, _, clips = make(4)
    batch = tiny_models.chunked([clips[0]], spare=3)
    assert np.isfinite(np.asarray(jax.jit(lambda: model.tower(**batch))())).all()


@pytest.mark.parametrize("frames, bins", [(6, 8), (25, 16), (13, 5)])
def test_convolution_by_rows_is_the_convolution(frames, bins):
    """Through `Convolution`, wide enough for it, with its gradients."""
    graph, state = nnx.split(audio_tower.Convolution(128, 3, rngs=nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(1), (2, frames, bins, 128))

    def convolved(x, kernel):
        return nnx.merge(graph, {**state, "kernel": nnx.Param(kernel)})(x)

    def plain(x, kernel):
        x = jax.lax.conv_general_dilated(
            x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.nn.gelu(x, approximate=False)

    kernel = state["kernel"][...]
    (ours, pull), (expected, pull_expected) = (jax.vjp(f, x, kernel) for f in (convolved, plain))
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), pull(ours), pull_expected(expected)
    )
