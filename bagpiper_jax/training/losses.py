"""The loss of docs/reference.md, Loss, without ever holding [B, T, S, V] logits.

The head of stream s sees h + e_s, so its logits are W·h + W·e_s: one product W·h serves all streams, and a
stream adds a bias over the codec ids that is the same for every slot. The softmax denominators of all streams
over the codec ids are then one small product as well,

    Σ_k exp(W_k·h + W_k·e_s)  =  Σ_k exp(W_k·h) · exp(W_k·e_s),

taken per block of ids (a block is one codec stream's range) with each factor scaled by its own maximum there.
Stream 0 has e_0 = 0; adding the text ids to its denominator gives the softmax over the whole vocabulary.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from bagpiper_jax import parallel
from bagpiper_jax.vocabulary import PAD, Vocabulary

_WHOLE = P()

_TINY = 1e-37
"""Floor of a block's scaled denominator. It is reached only where, inside one block, both the logits and the
bias spread over more than 85 nats and peak at different ids; the value is then a bound instead of -inf."""


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """How the loss is computed.

    Attributes:
        chunk: slots per row whose logits exist at a time; memory is rows · chunk · V.
        z_loss: λ of λ·lse² per target, not class-weighted (docs/reference.md, Loss).
    """

    chunk: int = 128
    z_loss: float = 0.0

    def __post_init__(self):
        if self.chunk < 1:
            raise ValueError(f"chunk must be at least 1 slot, got {self.chunk}")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossSums:
    """Sums over slots; they add up over micro-batches and hosts and are divided once.

    Attributes:
        total: [] Σ class-weighted cross-entropy + z-loss; `total / frames` is the loss.
        frames: [] slots whose stream-0 weight is not zero.
        correct: [] stream-0 targets that the model ranks first, before every other id.
        stream, stream_targets: [S] Σ unweighted cross-entropy and number of targets per stream.
        direction, direction_frames: [N] `total` without z-loss and `frames` per direction.
    """

    total: Array
    frames: Array
    correct: Array
    stream: Array
    stream_targets: Array
    direction: Array
    direction_frames: Array

    @classmethod
    def zeros(cls, streams: int, directions: int) -> "LossSums":
        scalar, s, n = jnp.zeros(()), jnp.zeros(streams), jnp.zeros(directions)
        return cls(scalar, scalar, scalar, s, s, n, n)

    def __add__(self, other: "LossSums") -> "LossSums":
        return jax.tree.map(jnp.add, self, other)


def loss_sums(
    hidden: Float[Array, "B T D"],
    lm_head: Float[Array, "V D"],
    stream_emb: Float[Array, "S D"],
    tokens: Int[Array, "B T S"],
    loss_weights: Float[Array, "B T S"],
    direction: Int[Array, "B T"],
    vocabulary: Vocabulary,
    num_directions: int,
    config: LossConfig = LossConfig(),
) -> LossSums:
    """Loss sums of a batch; differentiable in `hidden`, `lm_head` and `stream_emb` through `total` only.

    The hidden state of slot t predicts the S tokens of slot t+1 with the weights of slot t+1. Stream 0
    chooses among all V ids, `<|pad|>` being no target; streams 1 to S-1 among the codec ids. Products run in
    the dtype of `hidden` and accumulate in float32.
    """
    targets, weights, direction = (_next_slot(x) for x in (tokens, loss_weights, direction))
    text_head, codec_head = (
        lm_head[: vocabulary.codec_start],
        lm_head[vocabulary.codec_start : vocabulary.size],
    )
    offsets = stream_emb.at[0].set(0).astype(hidden.dtype)
    bias = jnp.einsum(
        "sd,vd->sv", offsets, codec_head.astype(hidden.dtype), preferred_element_type=jnp.float32
    )
    static = (vocabulary, num_directions, config)
    total, sums = _chunked(static, (hidden, text_head, codec_head, bias), (targets, weights, direction))
    return dataclasses.replace(jax.lax.stop_gradient(sums), total=total)


def _next_slot(x: Array) -> Array:
    """Values of slot t+1 at slot t, zeros at the row's end."""
    return jnp.concatenate([x[:, 1:], jnp.zeros_like(x[:, :1])], axis=1)


# The gradient is taken chunk by chunk in the forward pass, so logits are computed once and none is kept.
# That is exact because the result is linear in the cotangent of `total`, the only differentiable output.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _chunked(static, differentiable, data):
    sums = _on_shards(_scan_sums, static, differentiable, data, lambda hidden, text, codec: _WHOLE)
    return sums.total, sums


def _chunked_forward(static, differentiable, data):
    out_specs = lambda hidden, text, codec: (_WHOLE, (hidden, text, codec, _WHOLE))  # noqa: E731
    sums, gradients = _on_shards(_scan_gradients, static, differentiable, data, out_specs)
    return (sums.total, sums), gradients


def _chunked_backward(static, gradients, cotangents):
    scale = cotangents[0]
    return jax.tree.map(lambda g: (scale * g).astype(g.dtype), gradients), None


_chunked.defvjp(_chunked_forward, _chunked_backward)


def _on_shards(function, static, differentiable, data, out_specs):
    """Runs `function` on each device's own slots: the head is gathered once, and no logit leaves its device.

    XLA alone would gather the head, and sum its gradient over all devices, in every chunk. The vocabulary's axis is
    left to XLA; so is all of it where no other axis divides anything, as XLA refuses sums over axes of one device.
    """
    mesh, (hidden, text_head, codec_head, _) = parallel.mesh_in_use(), differentiable
    if mesh is None or all(mesh.shape[axis] == 1 for axis in parallel.DATA_AXES):
        return function(static, (), (), differentiable, data)
    slots = parallel.slot_spec(hidden)
    widths = [parallel.table_axes(head)[1] for head in (text_head, codec_head)]
    heads = [P(None, axes or None) for axes in widths]
    mapped = functools.partial(function, static, tuple(widths), parallel.DATA_AXES)
    in_specs = ((slots, *heads, _WHOLE), (slots,) * len(data))
    return parallel.per_shard(
        mapped, (differentiable, data), in_specs, out_specs(slots, *heads), parallel.DATA_AXES
    )


def _scan_sums(static, widths, others, differentiable, data):
    (hidden, *heads, bias), axes = differentiable, _head_axes(widths)
    hidden, heads = _gather_heads(hidden, heads, widths)

    def body(sums, chunk):
        logits = [_project(chunk[0], head, axes) for head in heads]
        return sums + _chunk_sums(static, (*logits, bias), chunk[1:])[1], None

    sums, _ = jax.lax.scan(body, _zero_sums(static), _split(static, (hidden, *data)))
    return _all_devices(sums, others)


def _scan_gradients(static, widths, others, differentiable, data):
    (hidden, *wide, bias), axes = differentiable, _head_axes(widths)
    hidden, heads = _gather_heads(hidden, wide, widths)
    gradient = jax.grad(functools.partial(_chunk_sums, static), has_aux=True)

    def body(carry, chunk):
        sums, d_heads, d_bias = carry
        logits = [_project(chunk[0], head, axes) for head in heads]
        (*d_logits, more_bias), new = gradient((*logits, bias), chunk[1:])
        d_logits = [d.astype(hidden.dtype) for d in d_logits]
        d_hidden = sum(
            jnp.einsum(f"btv,{axes}->btd", d, head, preferred_element_type=jnp.float32)
            for d, head in zip(d_logits, heads, strict=True)
        )
        d_heads = [
            total + jnp.einsum(f"btv,btd->{axes}", d, chunk[0], preferred_element_type=jnp.float32)
            for total, d in zip(d_heads, d_logits, strict=True)
        ]
        return (sums + new, d_heads, d_bias + more_bias), d_hidden.astype(hidden.dtype)

    start = (_zero_sums(static), [jnp.zeros(x.shape, jnp.float32) for x in heads], jnp.zeros_like(bias))
    (sums, d_heads, d_bias), d_hidden = jax.lax.scan(body, start, _split(static, (hidden, *data)))
    d_hidden = jnp.moveaxis(d_hidden, 0, 1).reshape(hidden.shape[0], -1, hidden.shape[2])
    d_hidden = d_hidden[:, : hidden.shape[1]]
    if others:
        # A device's sum over its chunks is float32; between devices it travels as the layers' gradients do.
        summed = functools.partial(parallel.scattered_sum, others=others, dtype=hidden.dtype, dimension=0)
        d_heads = [summed(d, w).T for d, w in zip(d_heads, widths, strict=True)]
    d_heads = [d.astype(x.dtype) for d, x in zip(d_heads, wide, strict=True)]
    return _all_devices(sums, others), (d_hidden, *d_heads, _all_devices(d_bias, others))


def _head_axes(widths) -> str:
    """Of the head inside the scan. A device's part of the width is contiguous in [D, V]: to gather and to scatter
    it there needs no transposed copy of the table, 2.5 GiB of float32 at the release's sizes."""
    return "dv" if widths else "vd"


def _gather_heads(hidden, heads, widths):
    """`hidden`, and the whole heads in its dtype. XLA may not gather them before `hidden` is there, as it would at the
    start of the step: they would lie beside all that the decoder needs."""
    heads = [head.astype(hidden.dtype) for head in heads]
    if not widths:
        return hidden, heads
    hidden, heads = jax.lax.optimization_barrier((hidden, heads))
    heads = [parallel.gathered(head.T, axes, 0) for head, axes in zip(heads, widths, strict=True)]
    return hidden, [parallel.constrain(head, None, "vocab") for head in heads]


def _project(hidden, head, axes):
    logits = jnp.einsum(f"btd,{axes}->btv", hidden, head, preferred_element_type=jnp.float32)
    return parallel.constrain(logits, None, None, "vocab")


def _all_devices(sums, others):
    return jax.lax.psum(sums, others) if others else sums


def _zero_sums(static) -> LossSums:
    vocabulary, num_directions, _ = static
    return LossSums.zeros(vocabulary.num_streams, num_directions)


def _split(static, arrays):
    """[B, T, …] to chunks [T/chunk, B, chunk, …]; rows stay whole so that their sharding does."""
    rows, slots = arrays[0].shape[:2]
    chunk = min(static[2].chunk, slots)
    count = -(-slots // chunk)

    def split(x):
        x = jnp.pad(x, [(0, 0), (0, count * chunk - slots)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(rows, count, chunk, *x.shape[2:]), 1, 0)

    return jax.tree.map(split, arrays)


def _chunk_sums(static, differentiable, data):
    """(total, LossSums) of one chunk [B, t] from its logits over text and codec ids, and the streams' bias."""
    vocabulary, num_directions, config = static
    text, codec, bias = differentiable
    targets, weights, direction = data
    codec_lse = _codec_denominators(codec, bias, vocabulary)
    first_lse = jnp.logaddexp(jax.nn.logsumexp(text, axis=-1), codec_lse[..., 0])
    lse = jnp.concatenate([first_lse[..., None], codec_lse[..., 1:]], axis=-1)

    is_codec = targets >= vocabulary.codec_start
    valid = (weights != 0) & is_codec.at[..., 0].set(targets[..., 0] != PAD)
    target_logits = _target_logits(text, codec, bias, targets, is_codec, vocabulary)
    cross_entropy = jnp.where(valid, lse - target_logits, 0)
    weighted = jnp.sum(weights * cross_entropy, axis=-1)
    total = jnp.sum(weighted) + config.z_loss * jnp.sum(jnp.where(valid, lse, 0) ** 2)
    frames = weights[..., 0] != 0
    # Ids that are as likely as the target, itself among them: a model that cannot tell has not ranked it first.
    first = target_logits[..., :1]
    as_likely = jnp.sum(text >= first, axis=-1) + jnp.sum(codec >= first, axis=-1)
    group = (direction[..., None] == jnp.arange(num_directions)).astype(jnp.float32)
    return total, LossSums(
        total=total,
        frames=jnp.sum(frames, dtype=jnp.float32),
        correct=jnp.sum(valid[..., 0] & (as_likely == 1), dtype=jnp.float32),
        stream=cross_entropy.sum((0, 1)),
        stream_targets=valid.sum((0, 1), dtype=jnp.float32),
        direction=jnp.einsum("bt,btn->n", weighted, group),
        direction_frames=jnp.einsum("bt,btn->n", frames, group),
    )


def _codec_denominators(codec, bias, vocabulary: Vocabulary):
    """Log-sum-exp of codec + bias over the codec ids, for every stream: [B, t, S]."""
    blocks, size = vocabulary.num_streams, vocabulary.stream_size
    codec = codec.reshape(*codec.shape[:-1], blocks, size)
    bias = bias.reshape(bias.shape[0], blocks, size)
    codec_max, bias_max = jax.lax.stop_gradient((codec.max(-1), bias.max(-1)))
    scaled = jnp.exp(codec - codec_max[..., None]).reshape(*codec.shape[:-2], blocks * size)
    # One block-diagonal product [n·k, n·S] is faster than n small ones: no transposition of the wide operand.
    factors = jnp.einsum("snk,nm->nkms", jnp.exp(bias - bias_max[..., None]), jnp.eye(blocks))
    factors = factors.reshape(blocks * size, -1)
    sums = jnp.matmul(scaled, factors, precision=jax.lax.Precision.HIGHEST)
    sums = jnp.log(jnp.maximum(sums.reshape(*codec_max.shape, -1), _TINY))
    return jax.nn.logsumexp(sums + codec_max[..., None] + bias_max.T, axis=-2)


def _target_logits(text, codec, bias, targets, is_codec, vocabulary: Vocabulary):
    """Logits of the targets, [B, t, S]; meaningless where the target is ignored."""
    codec_ids = jnp.where(is_codec, targets - vocabulary.codec_start, 0)
    streams = jnp.arange(vocabulary.num_streams)
    codec_logits = jnp.take_along_axis(codec, codec_ids, axis=-1) + bias[streams, codec_ids]
    # A sum over a comparison: its gradient fuses into that of the softmax, where a gather's would scatter.
    is_target = jnp.arange(text.shape[-1]) == jnp.where(is_codec[..., :1], 0, targets[..., :1])
    text_logits = jnp.sum(jnp.where(is_target, text, 0), axis=-1, keepdims=True)
    first = jnp.where(is_codec[..., :1], codec_logits[..., :1], text_logits)
    return jnp.concatenate([first, codec_logits[..., 1:]], axis=-1)
