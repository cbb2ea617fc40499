"""The codec as pure functions of (parameters, config, arrays).

Parameters are a flat dictionary by path, see `models.parameters`. Matrix products run in full float32 everywhere: a
code is an arg-min, reduced precision changes it.
"""

import functools

import jax
from flax import nnx
from jaxtyping import Array, Float, Int

from bagpiper_jax.models.codecs.xcodec.layers import Lengths
from bagpiper_jax.models.codecs.xcodec.module import XCodec
from bagpiper_jax.models.configs import CodecConfig
from bagpiper_jax.models.parameters import Parameters, require_match, shapes_of

SHORTEST_BUCKET = 16
"""Frames of the smallest decode shape; the others are powers of two times this."""


@functools.lru_cache(maxsize=8)
def _structure(config: CodecConfig):
    abstract = nnx.eval_shape(lambda: XCodec(config, rngs=nnx.Rngs(0)))
    graphdef, state = nnx.split(abstract)
    return graphdef, state


def _names(state) -> dict[str, nnx.Variable]:
    return {"/".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(state)}


def shapes(config: CodecConfig) -> dict[str, jax.ShapeDtypeStruct]:
    """Name → shape and dtype of every parameter."""
    leaves = _names(_structure(config)[1])
    return {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in leaves.items()}


def initialize(config: CodecConfig, seed: int = 0) -> dict[str, Array]:
    """Random parameters; codebooks are empty (`inited` 0) until training fills them."""
    state = nnx.state(XCodec(config, rngs=nnx.Rngs(seed)))
    return {name: leaf[...] for name, leaf in _names(state).items()}


def build(parameters: Parameters, config: CodecConfig) -> XCodec:
    """The module with these parameters. Raises ParametersError: names or shapes are not the config's."""
    graphdef, state = _structure(config)
    require_match(shapes_of(shapes(config)), shapes_of(parameters), "the codec")
    flat = [
        (path, leaf.replace(parameters["/".join(map(str, path))])) for path, leaf in nnx.to_flat_state(state)
    ]
    return nnx.merge(graphdef, nnx.from_flat_state(flat))


@functools.partial(jax.jit, static_argnames="config")
def encode(
    parameters: Parameters, config: CodecConfig, waveform: Float[Array, "B T"], lengths: Lengths = None
) -> Int[Array, "B N S"]:
    """Codes of waveforms. `lengths` [B] are samples; codes past a clip's own lengths // hop mean nothing."""
    with jax.default_matmul_precision("highest"):
        return build(parameters, config).encode(waveform, lengths)


@functools.partial(jax.jit, static_argnames="config")
def decode(
    parameters: Parameters, config: CodecConfig, codes: Int[Array, "B N S"], frames: Lengths = None
) -> Float[Array, "B T"]:
    """Waveforms of codes, T = N·hop. `frames` [B] are valid; samples past a clip's own end mean nothing."""
    with jax.default_matmul_precision("highest"):
        return build(parameters, config).decode(codes, frames)


def bucket(frames: int) -> int:
    """The padded length at which `frames` are decoded: few shapes, so few compilations."""
    size = SHORTEST_BUCKET
    while size < frames:
        size *= 2
    return size
