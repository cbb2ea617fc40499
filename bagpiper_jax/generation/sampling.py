"""Which ids a segment may emit, and how one is drawn (docs/reference.md, Segment loop and Guidance).

A text segment emits text ids on stream 0 and zeros elsewhere. An audio segment emits, on every stream, that
stream's own codes or pad. On stream 0 both may emit a terminator. Because everything else is masked, only the
permitted rows of the head are multiplied: the masked rows could never be drawn.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32, Key

from bagpiper_jax import vocabulary as v
from bagpiper_jax.vocabulary import Vocabulary

TERMINATORS = (v.EOS, v.EOT)


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


def text_head(head: Float[Array, "V D"], vocabulary: Vocabulary) -> Float[Array, "K D"]:
    """The head's rows of eos, eot and every text id, in that order."""
    return jnp.concatenate([head[jnp.array(TERMINATORS)], head[v.NUM_SPECIALS : vocabulary.codec_start]])


def text_logits(hidden: Float[Array, "B D"], rows: Float[Array, "K D"]) -> Float[Array, "B K"]:
    """Float32 logits of stream 0, whose stream embedding is zero, over `text_head`."""
    return _product(hidden, rows)


def text_ids(choice: Int32[Array, " B"], vocabulary: Vocabulary) -> Int32[Array, "B S"]:
    """The rows of `text_logits` choices: the id on stream 0, zeros elsewhere."""
    terminators = jnp.array(TERMINATORS, jnp.int32)
    first = jnp.where(choice < 2, terminators[jnp.minimum(choice, 1)], choice - 2 + vocabulary.text_start)
    return jnp.zeros((len(choice), vocabulary.num_streams), jnp.int32).at[:, 0].set(first)


def audio_head(head: Float[Array, "V D"], vocabulary: Vocabulary) -> Float[Array, "S K D"]:
    """Per stream the head's rows of eos, eot, and that stream's own pad and codes, in that order."""
    start, streams = vocabulary.codec_start, vocabulary.num_streams
    own = head[start : start + vocabulary.codec_size].reshape(streams, vocabulary.stream_size, -1)
    ends = jnp.broadcast_to(head[jnp.array(TERMINATORS)], (streams, len(TERMINATORS), own.shape[-1]))
    return jnp.concatenate([ends, own], axis=1)


def audio_logits(
    hidden: Float[Array, "B D"], rows: Float[Array, "S K D"], stream_embedding: Float[Array, "S D"]
) -> Float[Array, "B S K"]:
    """Float32 logits over `audio_head`; terminators are barred on streams above 0.

    Stream s sees h + e_s, where e_0 = 0 (docs/reference.md, Embedding and head).
    """
    offset = stream_embedding.at[0].set(0).astype(hidden.dtype)
    logits = jax.vmap(_product, (1, 0), 1)(hidden[:, None] + offset, rows)
    return logits.at[:, 1:, : len(TERMINATORS)].set(-jnp.inf)


def audio_ids(choice: Int32[Array, "B S"], vocabulary: Vocabulary) -> Int32[Array, "B S"]:
    """The rows of `audio_logits` choices; a terminator on stream 0 zeroes the other streams."""
    codec = choice - 2 + jnp.asarray(vocabulary.stream_pads())
    ended = choice[:, 0] < 2
    terminator = jnp.array(TERMINATORS, jnp.int32)[jnp.minimum(choice[:, 0], 1)]
    rows = jnp.where(ended[:, None], 0, codec)
    return rows.at[:, 0].set(jnp.where(ended, terminator, rows[:, 0])).astype(jnp.int32)


def _product(hidden: Float[Array, "B D"], rows: Float[Array, "K D"]) -> Float[Array, "B K"]:
    return jnp.einsum("bd,kd->bk", hidden, rows.astype(hidden.dtype), preferred_element_type=jnp.float32)


def bar_terminators(
    logits: Float[Array, "B ... K"], barred: Bool[Array, ""] | bool
) -> Float[Array, "B ... K"]:
    """Masks the two leading terminator logits while `barred`."""
    ends = jnp.arange(logits.shape[-1]) < len(TERMINATORS)
    return jnp.where(ends & barred, -jnp.inf, logits)


def guide(
    conditional: Float[Array, "B D"], unconditional: Float[Array, "B D"], guidance: float
) -> Float[Array, "B D"]:
    """c·conditional + (1-c)·unconditional (docs/reference.md, Guidance).

    Applied to hidden states: logits are affine in them and the coefficients sum to 1, so this equals combining
    the logits of every stream, at one head product.
    """
    wide = conditional.astype(jnp.float32), unconditional.astype(jnp.float32)
    return (guidance * wide[0] + (1 - guidance) * wide[1]).astype(conditional.dtype)


def sample(
    keys: Key[Array, " B"], logits: Float[Array, "B ... K"], config: SamplingConfig
) -> Int32[Array, "B ..."]:
    """Draws one id per leading position: top-k first, then softmax(v / T); T = 0 is argmax.

    See docs/reference.md, Segment loop.

    Every row has its own key, so a row's draw doesn't depend on its batch mates.
    """
    if config.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    kept = min(config.top_k or logits.shape[-1], logits.shape[-1])
    values, ids = jax.lax.top_k(logits, kept)
    noise = jax.vmap(lambda key: jax.random.gumbel(key, values.shape[1:], values.dtype))(keys)
    winner = jnp.argmax(values / config.temperature + noise, axis=-1, keepdims=True)
    return jnp.take_along_axis(ids, winner, axis=-1)[..., 0].astype(jnp.int32)
