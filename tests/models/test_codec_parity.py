"""Our X-Codec against transformers' own, with its random weights passed through our name table."""

import functools
import json

import jax
import numpy as np
import pytest

from bagpiper_jax import audio
from bagpiper_jax.interop.tables import xcodec
from bagpiper_jax.models.codecs.xcodec import functional
from bagpiper_jax.models.codecs.xcodec.storage import NANO, load_codec
from bagpiper_jax.models.configs import CodecConfig, SemanticEncoderConfig

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.optimised

TINY = CodecConfig(
    encoder_width=4,
    decoder_width=32,
    acoustic_width=16,
    codebook_size=32,
    codebook_width=48,
    semantic=SemanticEncoderConfig(
        width=32, layers=3, heads=4, ffn_width=48, conv_widths=(8, 8, 12, 12, 16, 16, 20),
        positional_kernel=16, positional_groups=4,
    ),
)  # fmt: skip
SLOW_FRAMES = CodecConfig(
    strides=(8, 5, 4, 4),
    encoder_width=4,
    decoder_width=32,
    acoustic_width=16,
    codebook_size=32,
    codebook_width=32,
    semantic=SemanticEncoderConfig(
        width=16, layers=2, heads=2, ffn_width=24, conv_widths=(8, 8, 12, 12, 16, 16, 20),
        positional_kernel=7, positional_groups=2,
        conv_kernels=(10, 3, 3, 3, 3, 2, 4), conv_strides=(5, 2, 2, 2, 2, 2, 4),
    ),
)  # fmt: skip


def reference_model(config: CodecConfig, seed: int):
    torch.manual_seed(seed)
    semantic = config.semantic
    bandwidth = config.num_codebooks * (config.codebook_size - 1).bit_length() * config.sample_rate
    dac = dict(
        encoder_hidden_size=config.encoder_width,
        decoder_hidden_size=config.decoder_width,
        downsampling_ratios=list(config.strides),
        upsampling_ratios=list(config.strides),
        hidden_size=config.acoustic_width,
        model_type="dac",
    )
    hubert = dict(
        hidden_size=semantic.width,
        num_hidden_layers=semantic.layers,
        num_attention_heads=semantic.heads,
        intermediate_size=semantic.ffn_width,
        conv_dim=list(semantic.conv_widths),
        conv_kernel=list(semantic.conv_kernels),
        conv_stride=list(semantic.conv_strides),
        num_conv_pos_embeddings=semantic.positional_kernel,
        num_conv_pos_embedding_groups=semantic.positional_groups,
        model_type="hubert",
    )
    settings = transformers.XcodecConfig(
        codebook_size=config.codebook_size,
        acoustic_model_config=dac,
        semantic_model_config=hubert,
        target_bandwidths=[bandwidth / config.hop / 1000],
    )
    model = transformers.XcodecModel(settings).eval()
    assert model.quantizer.num_quantizers == config.num_codebooks
    for name, tensor in model.named_parameters():
        if tensor.ndim > 1 and "original" not in name:
            # the reference's own initial values nearly vanish after a few layers
            torch.nn.init.normal_(tensor, std=tensor[0].numel() ** -0.5)
        if tensor.ndim == 1 or "alpha" in name or "original0" in name:
            tensor.data.add_(0.1 * torch.randn_like(tensor))
    return model


def fill_codebooks(model, waveform):
    """Gives every codebook vectors of the size of what it quantises."""
    caught = {}
    hook = model.fc.register_forward_hook(lambda _, __, output: caught.update(latent=output))
    with torch.no_grad():
        model.encode(waveform)
    hook.remove()
    scale = caught["latent"].std()
    for index, quantizer in enumerate(model.quantizer.quantizers):
        quantizer.codebook.embed.copy_(torch.randn_like(quantizer.codebook.embed) * scale * 0.7**index)
    with torch.no_grad():  # waveforms have the scale of waveforms, where 1e-4 means something
        loudness = model(waveform).audio_values.std()
        model.acoustic_decoder.conv2.weight.mul_(0.3 / loudness)


@functools.lru_cache(maxsize=4)
def both(config, seed, samples):
    model = reference_model(config, seed)
    rng = np.random.default_rng(seed)
    waveform = (0.2 * rng.standard_normal((2, samples))).astype(np.float32)
    fill_codebooks(model, torch.tensor(waveform)[:, None])
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return model, xcodec.to_ours(state, config), waveform


@pytest.mark.parametrize("config", [TINY, SLOW_FRAMES], ids=["hop320", "hop640"])
def test_codes_and_waveform_equal_the_reference(config):
    model, parameters, waveform = both(config, 0, 12 * config.hop)
    with torch.no_grad():
        expected = model(torch.tensor(waveform)[:, None])
    codes = functional.encode(parameters, config, waveform)
    np.testing.assert_array_equal(codes, expected.audio_codes.numpy().transpose(0, 2, 1))
    assert len(np.unique(codes)) > config.codebook_size // 4
    decoded = functional.decode(parameters, config, codes)
    assert decoded.shape == waveform.shape
    np.testing.assert_allclose(decoded, expected.audio_values[:, 0].numpy(), atol=1e-4)
    assert np.std(decoded) > 0.1


def test_gradients_of_the_decoder_path_equal_the_reference():
    model = reference_model(TINY, 2)
    with torch.no_grad():  # at full strength a random Snake stack amplifies torch's own rounding to a percent
        for name, parameter in model.acoustic_decoder.named_parameters():
            parameter.mul_(1.0 if "alpha" in name else 0.5)
        for quantizer in model.quantizer.quantizers:
            quantizer.codebook.embed.copy_(torch.randn_like(quantizer.codebook.embed))
    parameters = xcodec.to_ours({name: x.numpy() for name, x in model.state_dict().items()}, TINY)
    random = np.random.default_rng(1)
    codes = random.integers(0, TINY.codebook_size, (2, 12, TINY.num_codebooks))
    upstream = random.standard_normal((2, 12 * TINY.hop)).astype(np.float32)
    decoded = model.decode(torch.tensor(codes).transpose(1, 2)).audio_values[:, 0]
    (decoded * torch.tensor(upstream)).sum().backward()

    def loss(parameters):
        return (functional.decode(parameters, TINY, codes) * upstream).sum()

    ours = xcodec.to_theirs({n: np.asarray(g) for n, g in jax.grad(loss)(parameters).items()}, TINY)
    theirs = {n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert {name.split(".")[0] for name in theirs} == {"fc2", "acoustic_decoder"} and len(theirs) > 50
    for name, wanted in theirs.items():
        np.testing.assert_allclose(ours[name], wanted, atol=1e-4 * np.abs(wanted).max(), err_msg=name)


def clips_of(demo_clips, seconds: float, count: int) -> list[np.ndarray]:
    records = [json.loads(line) for line in (demo_clips / "manifest.jsonl").read_text().splitlines()]
    waves = [
        audio.read(demo_clips / r["audio"], max_seconds=60) for r in records[:: len(records) // count][:count]
    ]
    return [wave[: round(seconds * audio.SAMPLE_RATE)] for wave in waves]


def assert_codes_equal(model, parameters, config, wave: np.ndarray) -> None:
    """Every code, and the waveform decoded from them."""
    wave = wave[None, : len(wave) // config.hop * config.hop]
    with torch.no_grad():
        expected = model(torch.tensor(wave)[:, None])
    codes = functional.encode(parameters, config, wave)
    np.testing.assert_array_equal(codes, expected.audio_codes.numpy().transpose(0, 2, 1))
    decoded = functional.decode(parameters, config, codes)
    np.testing.assert_allclose(decoded, expected.audio_values[:, 0].numpy(), atol=1e-4)


def test_the_nano_codec_is_transformers_on_real_clips(demo_clips):
    parameters, config = load_codec(NANO)
    model = reference_model(config, 0)
    state = xcodec.to_theirs(parameters, config)
    model.load_state_dict({name: torch.tensor(np.asarray(x)) for name, x in state.items()})
    for wave in clips_of(demo_clips, 3.0, 4):
        assert_codes_equal(model, parameters, config, wave)


@pytest.mark.slow
def test_full_size_codes_of_real_clips(demo_clips):
    config = CodecConfig()
    model = reference_model(config, 1)
    waves = clips_of(demo_clips, 1.0, 3)
    fill_codebooks(model, torch.tensor(waves[0])[None, None])
    parameters = xcodec.to_ours({name: x.numpy() for name, x in model.state_dict().items()}, config)
    for wave in waves:
        assert_codes_equal(model, parameters, config, wave)


def test_semantic_features_are_the_mean_of_all_hidden_states():
    model, parameters, waveform = both(TINY, 0, 12 * TINY.hop)
    with torch.no_grad():
        expected = model._extract_semantic_features(torch.tensor(waveform)[:, None]).numpy()
    _, features = functional.build(parameters, TINY).latent(waveform)
    np.testing.assert_allclose(features, expected, atol=2e-5)


def test_samples_past_the_last_whole_frame_are_ignored():
    _, parameters, waveform = both(TINY, 0, 12 * TINY.hop)
    longer = np.concatenate([waveform, np.ones((2, TINY.hop - 1), np.float32)], axis=1)
    np.testing.assert_array_equal(
        functional.encode(parameters, TINY, longer), functional.encode(parameters, TINY, waveform)
    )


def test_export_inverts_import_bit_for_bit():
    model, parameters, _ = both(SLOW_FRAMES, 0, 12 * SLOW_FRAMES.hop)
    back = xcodec.to_theirs(parameters, SLOW_FRAMES)
    state = model.state_dict()
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        np.testing.assert_array_equal(back[name], tensor.numpy())


def test_import_names_what_is_missing_and_what_is_unknown():
    state = xcodec.to_theirs(functional.initialize(TINY), TINY)
    state["surprise"] = state.pop("fc.bias")
    with pytest.raises(
        ValueError, match=r"2 faults(.|\n)*missing fc.bias \[\d+\](.|\n)*unknown surprise \[\d+\]"
    ):
        xcodec.to_ours(state, TINY)


def test_full_size_names_are_the_454_of_the_release():
    model_names = {entry.theirs for entry in xcodec.entries(CodecConfig())}
    assert len(model_names) == len(xcodec.entries(CodecConfig())) == 454
    ours = {entry.ours for entry in xcodec.entries(CodecConfig())}
    assert ours == functional.shapes(CodecConfig()).keys()
    values = sum(int(np.prod(shape.shape)) for shape in functional.shapes(CodecConfig()).values())
    assert values == 177_484_041  # docs/reference.md, X-Codec


@pytest.mark.slow
def test_full_size_codes_equal_the_reference():
    config = CodecConfig()
    model, parameters, waveform = both(config, 0, 24 * config.hop)
    with torch.no_grad():
        expected = model(torch.tensor(waveform)[:, None])
    codes = functional.encode(parameters, config, waveform)
    np.testing.assert_array_equal(codes, expected.audio_codes.numpy().transpose(0, 2, 1))
    decoded = functional.decode(parameters, config, codes)
    np.testing.assert_allclose(decoded, expected.audio_values[:, 0].numpy(), atol=1e-4)
