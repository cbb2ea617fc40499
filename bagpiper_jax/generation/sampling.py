"""Which ids a segment may emit, and how one is drawn (docs/reference.md, Segment loop and Guidance).

A text segment emits text ids on stream 0 and zeros elsewhere. An audio segment emits, on every stream, that
stream's own codes or pad. On stream 0 both may emit a terminator. Because everything else is masked, only the
permitted rows of the head are multiplied: the masked rows could never be drawn. Every row of a batch has settings and a
key of its own, so that rows of any requests are drawn together and none depends on its mates.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32, Key

from bagpiper_jax import parallel
from bagpiper_jax import vocabulary as v
from bagpiper_jax.models.bagpiper import Bagpiper
from bagpiper_jax.vocabulary import Vocabulary

TERMINATORS = (v.EOS, v.EOT)
MODALITIES = ("text", "audio")
MARKERS = (v.TEXT, v.AUDIO)
FEW = 32
"""Ids that are sorted; a row that keeps more is drawn without sorting."""


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How one modality is sampled.

    Attributes:
        temperature: 0 takes the most likely id.
        top_k: ids kept before the softmax; 0 keeps all.
        guidance: classifier-free guidance c; logits = c·conditional + (1-c)·unconditional. 1 turns it off.
        min_steps: rows before a terminator is permitted, at least 1.
        max_steps: rows after which the segment is cut.
    """

    temperature: float = 0.6
    top_k: int = 20
    guidance: float = 1.0
    min_steps: int = 1
    max_steps: int = 512

    def __post_init__(self):
        if self.temperature < 0 or self.top_k < 0:
            raise ValueError(f"temperature and top_k must not be negative: {self}")
        if self.guidance < 1:
            raise ValueError(f"guidance must be at least 1 (1 is off), got {self.guidance}")
        if not 1 <= self.min_steps <= self.max_steps:
            raise ValueError(f"need 1 <= min_steps <= max_steps, got {self.min_steps} and {self.max_steps}")


@dataclasses.dataclass(frozen=True)
class TextSampling(SamplingConfig):
    """Text as the release samples it (docs/reference.md, Sampling settings)."""

    max_steps: int = 8192


@dataclasses.dataclass(frozen=True)
class AudioSampling(SamplingConfig):
    """Audio as the release samples it (docs/reference.md, Sampling settings): at least a second, at most forty."""

    temperature: float = 0.8
    guidance: float = 3.0
    min_steps: int = 50
    max_steps: int = 2048


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Heads:
    """The permitted rows of the head per kind of step, gathered once, in the compute dtype.

    Attributes:
        marker: [2, D]; of `<text>` and `<audio>`.
        text: [K, D]; of eos, eot and every text id, in that order.
        audio: [S, K, D]; per stream of eos, eot, and that stream's own pad and codes, in that order.
        offset: [S, D]; what a stream adds to the hidden state, zero for stream 0.
    """

    marker: Any
    text: Any
    audio: Any
    offset: Any


def heads(model: Bagpiper) -> Heads:
    """Gathers the rows of a model's head."""
    vocabulary, dtype = model.config.vocabulary, model.config.decoder.dtype
    head, start, streams = model.lm_head[...].astype(dtype), vocabulary.codec_start, vocabulary.num_streams
    ends = head[jnp.array(TERMINATORS)]
    own = head[start : start + vocabulary.codec_size].reshape(streams, vocabulary.stream_size, -1)
    text = jnp.concatenate([ends, head[v.NUM_SPECIALS : start]])
    audio = jnp.concatenate([jnp.broadcast_to(ends, (streams, *ends.shape)), own], axis=1)
    return Heads(
        marker=head[jnp.array(MARKERS)],
        text=parallel.constrain(text, "vocab"),
        audio=parallel.constrain(audio, None, "vocab"),
        offset=model.stream_emb[...].at[0].set(0).astype(dtype),
    )


def text_logits(hidden: Float[Array, "B D"], rows: Float[Array, "K D"]) -> Float[Array, "B K"]:
    """Float32 logits of stream 0, whose stream embedding is zero, over rows of the head."""
    if parallel.platform() != "cpu":
        return jnp.einsum("bd,kd->bk", hidden, rows, preferred_element_type=jnp.float32)
    # The many rows first, which takes half as long; XLA would turn the product round again if it saw the transposition.
    logits = jnp.einsum("kd,bd->kb", rows, hidden, preferred_element_type=jnp.float32)
    return jax.lax.optimization_barrier(logits).T


def text_ids(choice: Int32[Array, " B"], vocabulary: Vocabulary) -> Int32[Array, "B S"]:
    """The rows of `text_logits` choices: the id on stream 0, zeros elsewhere."""
    terminators = jnp.array(TERMINATORS, jnp.int32)
    first = jnp.where(choice < 2, terminators[jnp.minimum(choice, 1)], choice - 2 + vocabulary.text_start)
    return jnp.zeros((len(choice), vocabulary.num_streams), jnp.int32).at[:, 0].set(first)


def audio_logits(hidden: Float[Array, "B D"], heads: Heads) -> Float[Array, "B S K"]:
    """Float32 logits over `Heads.audio`; terminators are barred on streams above 0.

    Stream s sees h + e_s, where e_0 = 0 (docs/reference.md, Embedding and head).
    """
    logits = jax.vmap(text_logits, (1, 0), 1)(hidden[:, None] + heads.offset, heads.audio)
    return logits.at[:, 1:, : len(TERMINATORS)].set(-jnp.inf)


def audio_ids(choice: Int32[Array, "B S"], vocabulary: Vocabulary) -> Int32[Array, "B S"]:
    """The rows of `audio_logits` choices; a terminator on stream 0 zeroes the other streams."""
    codec = choice - 2 + jnp.asarray(vocabulary.stream_pads())
    ended = choice[:, 0] < 2
    terminator = jnp.array(TERMINATORS, jnp.int32)[jnp.minimum(choice[:, 0], 1)]
    rows = jnp.where(ended[:, None], 0, codec)
    return rows.at[:, 0].set(jnp.where(ended, terminator, rows[:, 0])).astype(jnp.int32)


def bar_terminators(logits: Float[Array, "B N K"], barred: Bool[Array, " B"]) -> Float[Array, "B N K"]:
    """Masks the two leading terminator logits of the rows that are barred."""
    ends = jnp.arange(logits.shape[-1]) < len(TERMINATORS)
    return jnp.where(ends & barred[:, None, None], -jnp.inf, logits)


def guide(
    conditional: Float[Array, "B D"], unconditional: Float[Array, "B D"], guidance: Float[Array, " B"]
) -> Float[Array, "B D"]:
    """c·conditional + (1-c)·unconditional (docs/reference.md, Guidance).

    Applied to hidden states: logits are affine in them and the coefficients sum to 1, so this equals combining
    the logits of every stream, at one head product.
    """
    wide, c = (conditional.astype(jnp.float32), unconditional.astype(jnp.float32)), guidance[:, None]
    return (c * wide[0] + (1 - c) * wide[1]).astype(conditional.dtype)


def sample(
    keys: Key[Array, " B"],
    logits: Float[Array, "B N K"],
    temperature: Float[Array, " B"],
    top_k: Int32[Array, " B"],
) -> Int32[Array, "B N"]:
    """Draws an id for each of a row's N streams: top-k first, then softmax(v / T); T = 0 is argmax.

    See docs/reference.md, Segment loop.

    Args:
        keys: a key for each row; stream n draws with `fold_in(key, n)`.
        temperature: of each row.
        top_k: ids kept; 0 keeps all, and so does more than there are.
    """
    size = logits.shape[-1]
    few = min(FEW, size)
    warm = temperature > 0
    wide = warm & ((top_k == 0) | (top_k > few))

    def likeliest():
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)

    def of_few():
        values, ids = jax.lax.top_k(logits, few)
        kept = jnp.arange(few) < top_k[:, None, None]
        choice = _gumbel_max(keys, jnp.where(kept, values, -jnp.inf), temperature)
        choice = jnp.where(warm[:, None], choice, 0)
        return jnp.take_along_axis(ids, choice[..., None], axis=-1)[..., 0].astype(jnp.int32)

    def of_all(choice):
        rank = jnp.where(top_k == 0, size, jnp.minimum(top_k, size))
        kept = logits >= _largest(logits, rank[:, None])[..., None]
        drawn = _gumbel_max(keys, jnp.where(kept, logits, -jnp.inf), temperature)
        return jnp.where(wide[:, None], drawn, choice)

    # What a row draws is the same whatever its mates make a step do.
    choice = jax.lax.cond(jnp.any(warm), of_few, likeliest)
    return jax.lax.cond(jnp.any(wide), of_all, lambda choice: choice, choice)


def _gumbel_max(keys: Key[Array, " B"], values: Float[Array, "B N K"], temperature: Float[Array, " B"]):
    """Draws from softmax(v / T) as the largest of v / T + Gumbel noise."""

    def noise(key):
        streams = jax.vmap(lambda n: jax.random.fold_in(key, n))(jnp.arange(values.shape[1]))
        return jax.vmap(lambda key: jax.random.gumbel(key, values.shape[2:]))(streams)

    divisor = jnp.where(temperature > 0, temperature, 1)[:, None, None]
    return jnp.argmax(values / divisor + jax.vmap(noise)(keys), axis=-1).astype(jnp.int32)


def _largest(values: Float[Array, "B N K"], rank: Int32[Array, "B 1"]) -> Float[Array, "B N"]:
    """The value of a rank, 1 the largest, by bisection over the order of floats: a sort of all ids costs more."""
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)
    ordered = jnp.where(bits < 0, bits ^ jnp.int32(0x7FFFFFFF), bits)

    def narrow(_, bounds):
        low, high = bounds  # at least `rank` values are not below `low`, fewer are not below `high`
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        enough = jnp.sum(ordered >= middle[..., None], axis=-1) >= rank
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    ends = jnp.iinfo(jnp.int32)
    low = jnp.full(values.shape[:-1], ends.min, jnp.int32), jnp.full(values.shape[:-1], ends.max, jnp.int32)
    found = jax.lax.fori_loop(0, 32, narrow, low)[0]
    return jax.lax.bitcast_convert_type(
        jnp.where(found < 0, found ^ jnp.int32(0x7FFFFFFF), found), jnp.float32
    )
