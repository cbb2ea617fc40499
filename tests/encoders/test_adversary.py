"""The codec's adversary: its discriminators and losses beside torch, balance by hand, and what a step changes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_codec import TINY, noise

from bagpiper_jax import configuration
from bagpiper_jax.encoders import codec, loop
from bagpiper_jax.encoders.adversary import discriminators, losses
from bagpiper_jax.encoders.adversary import step as adversarial
from bagpiper_jax.encoders.adversary.balance import RunningNorms, balanced
from bagpiper_jax.encoders.adversary.config import AdversaryConfig, DiscriminatorConfig
from bagpiper_jax.encoders.adversary.state import initial_adversary
from bagpiper_jax.encoders.codec import TrainCodecConfig
from bagpiper_jax.encoders.codec_data import Crops
from bagpiper_jax.encoders.codec_step import CodecOptimizerConfig

WINDOW = 64


def parameters(config: DiscriminatorConfig, seed: int = 0) -> dict:
    """Random ones in which lengths and biases are not those of a fresh start."""
    rng = np.random.default_rng(seed)
    found = discriminators.initialize(config, seed)
    return {
        name: x * rng.uniform(0.5, 2, x.shape) + 0.1 * rng.normal(size=x.shape) for name, x in found.items()
    }


def torch_convolution(torch, ours: dict, name: str, stride, padding):
    """A weight-normalised convolution of torch over two axes with our weights; one axis of ours is followed by a
    second of size 1."""
    direction = np.asarray(ours[f"{name}/direction"], np.float32)
    if direction.ndim == 3:
        direction = direction[:, None]
    *kernel, inputs, outputs = direction.shape
    layer = torch.nn.Conv2d(inputs, outputs, tuple(kernel), stride, padding)
    layer = torch.nn.utils.parametrizations.weight_norm(layer)
    magnitude = np.asarray(ours[f"{name}/magnitude"], np.float32).reshape(-1, 1, 1, 1)
    values = {
        "bias": np.asarray(ours[f"{name}/bias"], np.float32),
        "parametrizations.weight.original0": magnitude,
        "parametrizations.weight.original1": direction.transpose(3, 2, 0, 1),
    }
    layer.load_state_dict({name: torch.tensor(x) for name, x in values.items()})
    return layer


def torch_layers(torch, layers, x) -> list:
    said = []
    for layer in layers:
        x = torch.nn.functional.leaky_relu(layer(x), 0.1)
        said.append(x)
    return said


def torch_period(torch, ours: dict, period: int, x):
    """HiFi-GAN's multi-period discriminator of one period, out of its paper."""
    shapes = [((3, 1), (2, 0))] * 4 + [((1, 1), (2, 0))]
    layers = [torch_convolution(torch, ours, f"layers/{i}", *shape) for i, shape in enumerate(shapes)]
    last = torch_convolution(torch, ours, "last", (1, 1), (1, 0))
    if x.shape[1] % period:
        x = torch.nn.functional.pad(x[:, None], (0, period - x.shape[1] % period), mode="reflect")[:, 0]
    said = torch_layers(torch, layers, x.reshape(len(x), 1, -1, period))
    # ours has phases among the rows: [B·P, L, C]
    told = [*said, last(said[-1])]
    return [layer.permute(0, 3, 2, 1).reshape(-1, layer.shape[2], layer.shape[1]) for layer in told]


def torch_spectrum(torch, window: int, x):
    """DAC's spectrum: centred frames whose strides match the waveform's, as audiotools has it, by torch.stft."""
    hop = window // 4
    right = -x.shape[1] % hop
    pad = (window - hop) // 2
    x = torch.nn.functional.pad(x[:, None], (pad, pad + right), mode="reflect")[:, 0]
    found = torch.stft(
        x, window, hop, window=torch.hann_window(window), center=True, normalized=True, return_complex=True
    )
    return torch.view_as_real(found[..., 2:-2])  # [B, K, F, 2]


def torch_spectrum_discriminator(torch, ours: dict, window: int, x):
    """DAC's multi-band discriminator of one window, out of its paper's description."""
    spectrum = torch_spectrum(torch, window, x).permute(0, 3, 2, 1)  # [B, 2, F, K]
    bins = window // 2 + 1
    shapes = [((1, 1), (1, 4)), *[((1, 2), (1, 4))] * 3, ((1, 1), (1, 1))]
    edges = [0.0, 0.1, 0.25, 0.5, 0.75, 1.0]
    told, ends = [], []
    for band, (low, high) in enumerate(zip(edges, edges[1:], strict=False)):
        layers = [torch_convolution(torch, ours, f"bands/{band}/{i}", *s) for i, s in enumerate(shapes)]
        said = torch_layers(torch, layers, spectrum[..., int(low * bins) : int(high * bins)])
        told += said
        ends.append(said[-1])
    told.append(torch_convolution(torch, ours, "last", (1, 1), (1, 1))(torch.cat(ends, -1)))
    return [layer.permute(0, 2, 3, 1) for layer in told]


def of_member(ours: dict, index: int) -> dict:
    prefix = f"members/{index}/"
    return {name.removeprefix(prefix): x for name, x in ours.items() if name.startswith(prefix)}


@pytest.mark.parametrize(
    "config, theirs",
    [
        (
            DiscriminatorConfig(periods=(3,), period_width=2, windows=()),
            functools.partial(torch_period, period=3),
        ),
        (
            DiscriminatorConfig(periods=(), windows=(WINDOW,), band_width=3),
            functools.partial(torch_spectrum_discriminator, window=WINDOW),
        ),
    ],
    ids=["period", "spectrum"],
)
def test_a_discriminator_says_what_torchs_says_layer_by_layer(config, theirs):
    torch = pytest.importorskip("torch")
    ours, wave = parameters(config), noise(1, 487)
    (found,) = jax.jit(discriminators.judge, static_argnums=1)(ours, config, wave)
    expected = theirs(torch, of_member(ours, 0), x=torch.from_numpy(wave))
    assert len(found) == len(expected)
    for layer, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(layer, other.detach().numpy(), atol=2e-5)


def test_losses_and_their_gradients_are_torchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    shapes = ((2, 5, 3), (2, 7, 1)), ((2, 4, 4), (2, 3, 1))
    draw = lambda: [[rng.normal(size=s).astype(np.float32) for s in member] for member in shapes]  # noqa: E731
    real, fake = draw(), draw()
    t_real, t_fake = (
        [[torch.tensor(x, requires_grad=True) for x in m] for m in side] for side in (real, fake)
    )
    relu, l1 = torch.relu, torch.nn.functional.l1_loss
    pairs = list(zip(t_real, t_fake, strict=True))
    expected = {
        ("lsgan", "told"): sum(((1 - r[-1]) ** 2).mean() + (f[-1] ** 2).mean() for r, f in pairs) / 2,
        ("hinge", "told"): sum(relu(1 - r[-1]).mean() + relu(1 + f[-1]).mean() for r, f in pairs) / 2,
        ("lsgan", "deceived"): sum(((1 - f[-1]) ** 2).mean() for _, f in pairs) / 2,
        ("hinge", "deceived"): sum(relu(1 - f[-1]).mean() for _, f in pairs) / 2,
        ("", "features"): sum(l1(f[0], r[0].detach()) for r, f in pairs) / 2,
    }
    ours = {
        "told": losses.discriminator_loss,
        "deceived": lambda kind, _, copies: losses.adversarial_loss(kind, copies),
        "features": lambda _, *sides: losses.feature_loss(*sides),
    }
    for (kind, name), value in expected.items():
        found, gradients = jax.value_and_grad(ours[name], (1, 2))(kind, real, fake)
        np.testing.assert_allclose(found, value.item(), rtol=1e-6)
        leaves = [x for side in (t_real, t_fake) for member in side for x in member]
        theirs = torch.autograd.grad(value, leaves, allow_unused=True)
        for mine, other in zip(jax.tree.leaves(gradients), theirs, strict=True):
            np.testing.assert_allclose(mine, 0 if other is None else other, atol=1e-6)


def test_norms_are_balanced_by_running_means():
    first = {"anchor": jnp.array([[3.0, 4.0], [0.0, 5.0]]), "other": jnp.array([[0.0, 1.0], [3.0, 0.0]])}
    norms = RunningNorms.of("anchor", "other").after(first, 0.75)
    assert [float(norms.mean(name)) for name in ("anchor", "other")] == [
        5.0,
        2.0,
    ]  # no pull of the zeros before
    total = balanced(first, norms, "anchor", {"other": 0.4})
    np.testing.assert_allclose(total, [[3.0, 5.0], [3.0, 5.0]])  # 0.4 · 5 / 2 is 1

    second = {"anchor": jnp.zeros((1, 2)), "other": jnp.array([[0.0, 9.0]])}
    norms = norms.after(second, 0.75)
    weight = 0.75 * 0.25 + 0.25
    np.testing.assert_allclose(norms.mean("other"), (0.75 * 0.25 * 2 + 0.25 * 9) / weight, rtol=1e-6)


def test_silence_is_balanced_to_silence():
    nothing = {"anchor": jnp.zeros((1, 3)), "other": jnp.zeros((1, 3))}
    norms = RunningNorms.of("anchor", "other").after(nothing, 0.9)
    np.testing.assert_array_equal(balanced(nothing, norms, "anchor", {"other": 1.0}), np.zeros((1, 3)))


def test_both_sides_are_scaled_by_the_originals_peak():
    original, copy = np.array([[0.0, 0.39], [0.0, 0.0]]), np.array([[0.1, 0.0], [0.0, 1e-4]])
    scaled, other = discriminators.levelled(original, copy)
    np.testing.assert_allclose(scaled, [[0.0, 0.78], [0.0, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(other, [[0.2, 0.0], [0.0, 0.008]], rtol=1e-6)  # a hum in silence stays a hum


class TestRivalry:
    SIZES = DiscriminatorConfig(periods=(2,), period_width=2, windows=(WINDOW,), band_width=2)
    CONFIG = AdversaryConfig(begin=2, ramp_steps=4, learning_rate=1e-2, discriminators=SIZES)
    rivalry = staticmethod(jax.jit(adversarial._rivalry, static_argnums=(3, 4)))

    def test_discriminators_learn_to_tell_copies_and_show_the_way_to_originals(self):
        original = np.sin(np.arange(256)[None] * np.array([[0.3], [0.4]])).astype(np.float32)
        copy = np.where(np.arange(256) % 4 < 2, original, 0).astype(np.float32)
        rival, told = initial_adversary(self.CONFIG, 60, 0), []
        for _ in range(60):
            rival, _, said = self.rivalry(rival, original, copy, self.CONFIG, 60)
            told.append(float(said["discriminators"]))
        assert told[-1] < 0.3 * told[0], told
        _, gradients, said = self.rivalry(rival, original, copy, self.CONFIG, 60)
        for name, gradient in gradients.items():
            moved = copy - 0.01 * gradient / np.abs(gradient).max()
            assert float(self.rivalry(rival, original, moved, self.CONFIG, 60)[2][name]) < said[name]

    def test_the_codec_begins_to_listen_step_by_step(self):
        heard = [float(adversarial._ramp(jnp.array(step), self.CONFIG)) for step in (2, 3, 5, 6, 90)]
        assert heard == [0.25, 0.5, 1.0, 1.0, 1.0]


def test_settings_that_cannot_be_meant_are_refused():
    settings = {
        "output": "x",
        "corpora": (),
        "steps": 10,
        "optimizer": CodecOptimizerConfig(semantic_steps=4),
    }
    for begin in (3, 10):
        with pytest.raises(ValueError, match="after the 4 semantic steps and before step 10"):
            TrainCodecConfig(**settings, adversary=AdversaryConfig(begin=begin))
    TrainCodecConfig(**settings, adversary=AdversaryConfig(begin=4))
    with pytest.raises(ValueError, match="needs periods or windows"):
        DiscriminatorConfig(periods=(), windows=())
    with pytest.raises(ValueError, match="multiples of 4 from 64 samples, got 30"):
        DiscriminatorConfig(windows=(30,))
    with pytest.raises(ValueError, match="norm_decay"):
        AdversaryConfig(norm_decay=1.0)


def test_the_long_recipe_keeps_what_the_nano_models_vocabulary_counts_on():
    nano, long = (
        configuration.build(TrainCodecConfig, [f"gin/runs/train_codec_{name}.gin"])
        for name in ("nano", "adversarial")
    )
    assert nano.adversary is None and long.adversary.begin > long.optimizer.semantic_steps > 0
    for name in ("num_codebooks", "codebook_size", "hop", "sample_rate"):
        assert getattr(long.codec, name) == getattr(nano.codec, name)


@pytest.mark.slow
def test_a_batch_divided_over_devices_teaches_what_it_teaches_whole():
    sizes = DiscriminatorConfig(periods=(2,), period_width=1, windows=(WINDOW,), band_width=2)
    adversary, optimizer = AdversaryConfig(discriminators=sizes), CodecOptimizerConfig()
    config = TrainCodecConfig("", (), TINY, optimizer, adversary, steps=10)
    batch = Crops(noise(3, 4 * TINY.hop, 4), np.ones((4, 4, 5), bool), np.array([True, False, True, True]))
    told = []
    for devices in (1, 4):
        rows, everywhere = loop._data_parallel(devices)
        state = jax.device_put(codec._initial_state(config, 5), everywhere)
        _, metrics = adversarial.adversarial_step(
            state, jax.device_put(batch, rows), TINY, optimizer, adversary, steps=10, seed=0
        )
        told.append(metrics)
    assert {"spectral_losses_norm", "adversarial_norm", "features_norm", "loss"} <= set(told[0])
    for name, value in told[0].items():
        np.testing.assert_allclose(told[1][name], value, rtol=2e-4, err_msg=name)
