"""Discriminators of waveforms, as X-Codec and DAC have them.

HiFi-GAN's (Kong et al., 2020) fold a waveform at several periods and read each phase along time. DAC's (Kumar et al.,
2023) read complex spectra at several windows, each divided into bands that have convolutions of their own.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from bagpiper_jax.encoders.adversary.config import DiscriminatorConfig
from bagpiper_jax.encoders.codec_losses import overlapping_frames, periodic_hann

BANDS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Edges of DAC's bands, as shares of a spectrum's bins."""

_SLOPE = 0.1
_LEVEL, _FLOOR = 0.8, 0.01

Features = list[Float[Array, "..."]]
"""What the layers of a discriminator say, one by one; the last are its logits: high where it hears an original."""


class NormConv(nnx.Module):
    """A zero-padded convolution over one axis or two whose kernels have a length of their own: w = g·v/‖v‖."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, ...], strides: tuple[int, ...], *, rngs):
        init = nnx.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
        direction = init(rngs.params(), (*kernel, inputs, outputs))
        self.direction = nnx.Param(direction)
        self.magnitude = nnx.Param(_lengths(direction))
        self.bias = nnx.Param(jnp.zeros(outputs))
        self.strides, self.padding = strides, [(size // 2, size // 2) for size in kernel]

    def __call__(self, x: Float[Array, "B ... I"]) -> Float[Array, "B ... O"]:
        axes = "HW"[: len(self.strides)]
        kernel = self.direction[...] * (self.magnitude[...] / _lengths(self.direction[...]))
        layout = f"N{axes}C", f"{axes}IO", f"N{axes}C"
        x = jax.lax.conv_general_dilated(x, kernel, self.strides, self.padding, dimension_numbers=layout)
        return x + self.bias[...]


def _lengths(direction: Float[Array, "... O"]) -> Float[Array, "O"]:
    return jnp.sqrt(jnp.square(direction).sum(tuple(range(direction.ndim - 1))))


def _through(layers, x: jax.Array) -> Features:
    """What each layer says of the one before it."""
    said = []
    for layer in layers:
        x = jax.nn.leaky_relu(layer(x), _SLOPE)
        said.append(x)
    return said


class PeriodDiscriminator(nnx.Module):
    """Reads every `period`-th sample, in all phases."""

    def __init__(self, period: int, width: int, *, rngs: nnx.Rngs):
        widths = (1, width, 4 * width, 16 * width, 32 * width, 32 * width)
        strides = (3, 3, 3, 3, 1)
        self.layers = nnx.List(
            NormConv(widths[i], widths[i + 1], (5,), (stride,), rngs=rngs) for i, stride in enumerate(strides)
        )
        self.last = NormConv(widths[-1], 1, (3,), (1,), rngs=rngs)
        self.period = period

    def __call__(self, x: Float[Array, "B T"]) -> Features:
        x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % self.period)), mode="reflect")
        phases = x.reshape(len(x), -1, self.period).swapaxes(1, 2)
        said = _through(self.layers, phases.reshape(len(x) * self.period, -1, 1))
        return [*said, self.last(said[-1])]


class SpectrumDiscriminator(nnx.Module):
    """Reads complex spectra, band by band; the last layer sees all bands."""

    def __init__(self, window: int, width: int, *, rngs: nnx.Rngs):
        layers = (((3, 9), (1, 1)), *[((3, 9), (1, 2))] * 3, ((3, 3), (1, 1)))
        bins = window // 2 + 1
        self.edges = tuple((int(a * bins), int(b * bins)) for a, b in zip(BANDS, BANDS[1:], strict=False))
        self.bands = nnx.List(
            nnx.List(
                NormConv(width if i else 2, width, kernel, strides, rngs=rngs)
                for i, (kernel, strides) in enumerate(layers)
            )
            for _ in self.edges
        )
        self.last = NormConv(width, 1, (3, 3), (1, 1), rngs=rngs)
        self.window = window

    def __call__(self, x: Float[Array, "B T"]) -> Features:
        spectrum = complex_spectrum(x, self.window)
        said = [
            _through(layers, spectrum[:, :, low:high])
            for (low, high), layers in zip(self.edges, self.bands, strict=True)
        ]
        joined = jnp.concatenate([band[-1] for band in said], axis=2)
        return [layer for band in said for layer in band] + [self.last(joined)]


def complex_spectrum(x: Float[Array, "B T"], window: int) -> Float[Array, "B F K 2"]:
    """Real and imaginary parts, a frame for each quarter window; a window of ones would give ones to sqrt(window)."""
    hop = window // 4
    padding = 3 * hop // 2
    x = jnp.pad(x, ((0, 0), (padding, padding + -x.shape[1] % hop)), mode="reflect")
    spectrum = jnp.fft.rfft(overlapping_frames(x, window) * (periodic_hann(window) / window**0.5), axis=-1)
    return jnp.stack([spectrum.real, spectrum.imag], axis=-1)


class Discriminators(nnx.Module):
    """All of them."""

    def __init__(self, config: DiscriminatorConfig, *, rngs: nnx.Rngs):
        periods = (PeriodDiscriminator(each, config.period_width, rngs=rngs) for each in config.periods)
        spectra = (SpectrumDiscriminator(each, config.band_width, rngs=rngs) for each in config.windows)
        self.members = nnx.List([*periods, *spectra])

    def __call__(self, x: Float[Array, "B T"]) -> list[Features]:
        return [member(x) for member in self.members]


def initialize(config: DiscriminatorConfig, seed: int) -> dict[str, Array]:
    """Random parameters by path."""
    state = nnx.state(Discriminators(config, rngs=nnx.Rngs(seed)))
    return {"/".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(state)}


@functools.lru_cache(maxsize=8)
def _structure(config: DiscriminatorConfig):
    return nnx.split(nnx.eval_shape(lambda: Discriminators(config, rngs=nnx.Rngs(0))))


def judge(
    parameters: dict[str, Array], config: DiscriminatorConfig, waveform: Float[Array, "B T"]
) -> list[Features]:
    """What each discriminator says of waveforms."""
    graphdef, state = _structure(config)
    leaves = [
        (path, leaf.replace(parameters["/".join(map(str, path))])) for path, leaf in nnx.to_flat_state(state)
    ]
    return nnx.merge(graphdef, nnx.from_flat_state(leaves))(waveform)


def levelled(
    original: Float[Array, "B T"], copy: Float[Array, "B T"]
) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
    """Both scaled to the original's peak.

    DAC scales either to its own. A copy's level would then be heard by nobody, and its hum in an original's silence
    would be as loud as speech.
    """
    scale = _LEVEL / (jnp.abs(original).max(1, keepdims=True) + _FLOOR)
    return original * scale, copy * scale
