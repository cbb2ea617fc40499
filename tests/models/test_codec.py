"""The codec's invariants: padding, batch mates, decoding helpers, its file."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_codec import HOP, TINY, noise

from bagpiper_jax.models.codecs.opening import open_codec
from bagpiper_jax.models.codecs.xcodec import functional, storage
from bagpiper_jax.models.codecs.xcodec.layers import Upsample, folded_convolution, sine_squared
from bagpiper_jax.models.codecs.xcodec.loaded import LoadedXCodec
from bagpiper_jax.models.configs import CodecConfig


@pytest.fixture(scope="module")
def parameters():
    """Random weights, codebooks drawn from what they quantise."""
    start = functional.initialize(TINY, seed=1)
    latent, _ = functional.build(start, TINY).latent(noise(2, 32 * HOP))
    spread = latent.reshape(-1, TINY.codebook_width)[: 3 * 16].reshape(3, 16, -1)
    return start | {"quantizer/embed": spread * jnp.array([1, 0.5, 0.25])[:, None, None]}


@pytest.mark.parametrize("frames", [1, 2, 5, 11])
def test_padding_and_batch_mates_change_no_code(parameters, frames):
    """The clip alone, without lengths, against the clip among loud mates of other lengths."""
    clip = noise(frames, frames * HOP, rows=1)
    alone = functional.encode(parameters, TINY, clip)[0]
    batch = noise(99, 16 * HOP, rows=3) * 3  # what stands past the clip's end is loud
    batch[1, : frames * HOP] = clip[0]
    lengths = jnp.array([16 * HOP, frames * HOP, 0])
    among = functional.encode(parameters, TINY, batch, lengths)[1, :frames]
    np.testing.assert_array_equal(among, alone)
    assert len(np.unique(alone)) > min(frames, 3)


def test_the_latent_of_a_padded_clip_is_that_of_the_clip_alone(parameters):
    model = functional.build(parameters, TINY)
    clip, batch = noise(5, 7 * HOP, rows=1), noise(6, 16 * HOP)
    batch[0, : 7 * HOP + 100] = np.pad(clip[0], (0, 100), constant_values=9)
    padded, _ = model.latent(batch, jnp.array([7 * HOP + 100, 16 * HOP]))
    np.testing.assert_allclose(padded[0, :7], model.latent(clip)[0][0], atol=1e-5)


def test_decoding_at_a_padded_length_changes_no_sample(parameters):
    codes = np.random.default_rng(0).integers(0, 16, (1, 9, 3))
    alone = functional.decode(parameters, TINY, codes)[0]
    padded = np.pad(codes, ((0, 0), (0, 7), (0, 0)), constant_values=3)
    among = functional.decode(parameters, TINY, padded, jnp.array([9]))[0, : 9 * HOP]
    np.testing.assert_allclose(among, alone, atol=1e-5)
    (clip,) = LoadedXCodec(parameters, TINY).decode(list(codes))
    np.testing.assert_allclose(clip, np.clip(alone, -1, 1), atol=1e-5)


def test_decoding_refuses_what_is_no_code(parameters):
    codec = LoadedXCodec(parameters, TINY)
    with pytest.raises(ValueError, match=r"codes must lie in \[0, 16\), got 0 to 16"):
        codec.decode([np.array([[0, 3, 16]])])
    with pytest.raises(ValueError, match=r"codes must be \[N, 3\], got \[4, 8\]"):
        codec.decode([np.zeros((4, 8), int)])
    (nothing,) = codec.decode([np.zeros((0, 3), int)])
    assert nothing.shape == (0,) and codec.decode([]) == []


def test_clips_encoded_one_by_one_and_in_batches_have_the_same_codes(parameters):
    codec = LoadedXCodec(parameters, TINY)
    clips = [noise(n, n * HOP + n, rows=1)[0] for n in (3, 20, 5, 1)]
    alone, together = codec.encode(clips), codec.encode(clips, batch_seconds=1.0)
    for n, one, other in zip((3, 20, 5, 1), alone, together, strict=True):
        assert one.shape == (n, 3)
        np.testing.assert_array_equal(one, other)


def test_a_codec_is_opened_by_its_file(parameters, tmp_path):
    name = storage.save_codec(tmp_path / "codec.safetensors", parameters, TINY)
    codec = open_codec(tmp_path / "codec.safetensors")
    assert (codec.sample_rate, codec.hop, codec.codebooks) == (TINY.sample_rate, TINY.hop, (16, 16, 16))
    assert codec.fingerprint == name


def test_upsample_is_a_transposed_convolution():
    """Against the general form: insert zeros, then convolve with the flipped kernel."""
    from flax import nnx

    for stride in (2, 4, 5, 8):
        layer = Upsample(3, 2, stride, rngs=nnx.Rngs(0))
        x = jax.random.normal(jax.random.key(stride), (2, 6, 3))
        padding = -(-stride // 2)
        before = 2 * stride - 1 - padding
        expected = jax.lax.conv_general_dilated(
            x,
            jnp.flip(jnp.moveaxis(layer.kernel[...], 1, 0), 0),
            window_strides=(1,),
            padding=[(before, before + stride % 2)],
            lhs_dilation=(stride,),
            dimension_numbers=("NWC", "WIO", "NWC"),
        )
        assert expected.shape == (2, 6 * stride, 2)
        np.testing.assert_allclose(layer(x), expected, atol=1e-5)


@pytest.mark.parametrize("kernel,dilation", [(7, 1), (7, 3), (7, 9), (3, 1), (5, 2)])
def test_folding_time_into_channels_changes_nothing(kernel, dilation):
    padding = (kernel - 1) * dilation // 2
    x = jax.random.normal(jax.random.key(0), (2, 48, 3))
    weight = jax.random.normal(jax.random.key(1), (kernel, 3, 4))
    plain = jax.lax.conv_general_dilated(
        x,
        weight,
        (1,),
        [(padding, padding)],
        rhs_dilation=(dilation,),
        dimension_numbers=("NWC", "WIO", "NWC"),
    )
    for fold in (2, 8):
        np.testing.assert_allclose(folded_convolution(x, weight, dilation, padding, fold), plain, atol=1e-5)


def test_sine_squared_and_its_gradient():
    x = np.linspace(-200, 200, 20_001, dtype=np.float32)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(sine_squared(x), np.sin(exact) ** 2, atol=5e-7)
    gradient = jax.vmap(jax.grad(sine_squared))(x)
    np.testing.assert_allclose(gradient, np.sin(2 * exact), atol=5e-6)


def test_configs_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="must multiply to hop 640"):
        CodecConfig(strides=(8, 5, 4, 4))
    with pytest.raises(
        ValueError, match="codebook_width 512 must be acoustic_width 256 \\+ semantic width 768"
    ):
        CodecConfig(codebook_width=512)


class TestFile:
    def test_round_trip_is_exact(self, parameters, tmp_path):
        name = storage.save_codec(tmp_path / "codec.safetensors", parameters, TINY, {"steps": 3})
        loaded, config = storage.load_codec(tmp_path / "codec.safetensors")
        assert config == TINY
        for key in functional.shapes(TINY):
            np.testing.assert_array_equal(loaded[key], parameters[key])
        assert storage.fingerprint(loaded, config) == name
        assert storage.read_header(tmp_path / "codec.safetensors")["provenance"] == {"steps": 3}

    def test_equal_codecs_are_equal_files(self, parameters, tmp_path):
        for name in "abcd":  # the library's own order of metadata changes from call to call
            storage.save_codec(tmp_path / name, parameters, TINY, {"steps": 3})
        assert len({(tmp_path / name).read_bytes() for name in "abcd"}) == 1

    def test_compact_halves_the_file_and_is_another_codec(self, parameters, tmp_path):
        whole, small = tmp_path / "whole", tmp_path / "small"
        names = [storage.save_codec(path, parameters, TINY, {}, path == small) for path in (whole, small)]
        assert names[0] != names[1]
        assert small.stat().st_size < 0.6 * whole.stat().st_size
        loaded, _ = storage.load_codec(small)
        assert storage.fingerprint(loaded, TINY) == names[1]
        rounded = np.asarray(parameters["fc/kernel"]).astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(loaded["fc/kernel"], rounded)

    def test_fingerprint_sees_config_and_weights(self, parameters):
        name = storage.fingerprint(parameters, TINY)
        changed = dict(parameters, **{"fc/bias": parameters["fc/bias"].at[0].add(1e-3)})
        assert name != storage.fingerprint(changed, TINY)
        assert name != storage.fingerprint(parameters, dataclasses.replace(TINY, sample_rate=24_000))

    def test_damage_is_named(self, parameters, tmp_path):
        path = tmp_path / "codec.safetensors"
        with pytest.raises(storage.CodecFileError, match="does not exist"):
            storage.load_codec(path)
        storage.save_codec(path, parameters, TINY)
        content = bytearray(path.read_bytes())
        path.write_bytes(content[:-100])
        with pytest.raises(storage.CodecFileError, match="damaged"):
            storage.load_codec(path)
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(storage.CodecFileError, match="differ from their fingerprint"):
            storage.load_codec(path)

    def test_wrong_tensors_are_named(self, parameters, tmp_path):
        broken = {name: value for name, value in parameters.items() if name != "fc/bias"}
        broken["fc2/bias"] = np.zeros(3)
        with pytest.raises(
            ValueError, match=r"missing fc/bias \[32\](.|\n)*fc2/bias is \[3\], should be \[16\]"
        ):
            storage.save_codec(tmp_path / "x", broken, TINY)
