"""One assistant segment, decoded for a whole batch inside one compiled loop.

See docs/reference.md, Segment loop and Guidance.

Row b of the key/value cache is filled from slot 0, whatever its batch mates' lengths: a token at position p is
written to slot p and sees slots 0 to p. So a finished row simply feeds its last token to the same slot again,
which changes nothing, and what an idle row writes to its next slot is overwritten before it can be seen.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int32, Key

from bagpiper_jax import vocabulary as v
from bagpiper_jax.batch import Batch
from bagpiper_jax.generation import sampling
from bagpiper_jax.generation.sampling import SamplingConfig
from bagpiper_jax.models.decoder import KVCache, init_cache

MARKERS = {"text": v.TEXT, "audio": v.AUDIO}
_NULL_BLOCK = 128


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SegmentBatch:
    """Rows that a segment emitted, terminator included; zeros from `length` on.

    Attributes:
        rows: int32 [B, max_steps, S].
        length: int32 [B], 0 for inactive rows.
        terminator: int32 [B], eos, eot, or 0 where the segment was cut at max_steps.
    """

    rows: Int32[Array, "B T S"]
    length: Int32[Array, " B"]
    terminator: Int32[Array, " B"]


@partial(jax.jit, static_argnames=("graph", "length"))
def prefill(graph: nnx.GraphDef, parameters: nnx.State, prompts: Batch, length: int) -> KVCache:
    """Feeds prompts, one per row and starting at slot 0, into a fresh cache of `length` slots."""
    model = nnx.merge(graph, parameters)
    cache = init_cache(model.config.decoder, prompts.tokens.shape[0], length)
    return model.decoder(model.inputs(prompts), prompts.positions, prompts.segment_ids, cache)[1]


@partial(jax.jit, static_argnames=("graph",), donate_argnames=("cache",))
def open_message(
    graph: nnx.GraphDef, parameters: nnx.State, cache: KVCache, active: Bool[Array, " B"]
) -> tuple[KVCache, Float[Array, "B 2"]]:
    """Feeds `<assistant>` to the active rows and returns the logits of `<text>` and `<audio>`."""
    model = nnx.merge(graph, parameters)
    start = cache.length
    hidden, cache = _advance(model, _special(model, v.ASSISTANT, len(start)), start, cache)
    scores = sampling.text_logits(hidden, model.lm_head[jnp.array([v.TEXT, v.AUDIO])])
    return dataclasses.replace(cache, length=start + active), scores


@partial(jax.jit, static_argnames=("graph", "modality", "config"), donate_argnames=("cache",))
def decode_segment(
    graph: nnx.GraphDef,
    parameters: nnx.State,
    cache: KVCache,
    active: Bool[Array, " B"],
    keys: Key[Array, " B"],
    modality: str,
    config: SamplingConfig,
    begun: Int32[Array, "B T"] | None = None,
) -> tuple[KVCache, SegmentBatch]:
    """Decodes one segment of `modality` for the active rows, from its marker to its terminator.

    The ids of `begun` stand at their places on stream 0 in place of what would be sampled; -1 leaves a place free.

    With guidance, the unconditional branch is a cache of all-zero tokens as long as the conditional one; both
    are fed the same sampled tokens. A row that ends feeds its last token once more, streams above 0 zeroed, so
    that its cache holds the whole message.
    """
    model = nnx.merge(graph, parameters)
    start, rows = cache.length, len(active)
    if config.guidance > 1:
        cache = _with_unconditional(model, cache)

    draw = _sampler(model, modality, config)

    def unfinished(state):
        i, _, _, done, _, _ = state
        return (i < config.max_steps) & ~jnp.all(done)

    def step(state):
        i, token, position, done, cache, emitted = state
        hidden, cache = _advance(model, token, position, cache, config.guidance)
        drawn = draw(keys, i, hidden)
        if begun is not None:
            drawn = drawn.at[:, 0].set(jnp.where(begun[:, i] < 0, drawn[:, 0], begun[:, i]))
        emitted = emitted.at[:, i].set(jnp.where(done[:, None], 0, drawn))
        token = jnp.where(done[:, None], token, drawn)
        return i + 1, token, position + ~done, done | _is_terminator(token), cache, emitted

    marker = _special(model, MARKERS[modality], rows)
    emitted = jnp.zeros((rows, config.max_steps, marker.shape[1]), jnp.int32)
    state = (jnp.int32(0), marker, start, ~active, cache, emitted)
    _, token, position, _, cache, emitted = jax.lax.while_loop(unfinished, step, state)
    _, cache = _advance(model, token.at[:, 1:].set(0), position, cache, config.guidance)
    terminator = jnp.where(active & _is_terminator(token), token[:, 0], 0)
    cache = KVCache(cache.k[:, :rows], cache.v[:, :rows], position + active)
    return cache, SegmentBatch(emitted, position - start, terminator)


def _special(model, token: int, rows: int) -> Int32[Array, "B S"]:
    streams = model.config.vocabulary.num_streams
    return jnp.zeros((rows, streams), jnp.int32).at[:, 0].set(token)


def _is_terminator(token: Int32[Array, "B S"]) -> Bool[Array, " B"]:
    return (token[:, 0] == v.EOS) | (token[:, 0] == v.EOT)


def _advance(model, token, position, cache: KVCache, guidance: float = 1.0):
    """Feeds one token per row at `position`: hidden [B, D], guided where the cache holds both branches.

    The cache's own length is overruled: the caller alone knows which rows move on.
    """
    x = model.embed(token[:, None])
    if guidance > 1:
        x, position = jnp.tile(x, (2, 1, 1)), jnp.tile(position, 2)
    cache = dataclasses.replace(cache, length=position)
    hidden, cache = model.decoder(x, position[:, None], jnp.ones_like(position)[:, None], cache)
    hidden = hidden[:, 0]
    if guidance > 1:
        conditional, unconditional = jnp.split(hidden, 2)
        hidden = sampling.guide(conditional, unconditional, guidance)
    return hidden, cache


def _with_unconditional(model, cache: KVCache) -> KVCache:
    """The cache of 2B rows: the conditional branch, then B copies of all-zero tokens (docs/reference.md, Guidance).

    One row of zeros serves all, as long as the longest; a shorter row overwrites from its own length on. Fed in
    blocks, so that the scores of a long context are never held at once.
    """
    _, rows, slots = cache.k.shape[:3]
    block = min(_NULL_BLOCK, slots)
    x = model.embed(jnp.zeros((1, block, model.config.vocabulary.num_streams), jnp.int32))

    def feed(null: KVCache) -> KVCache:
        positions = null.length[:, None] + jnp.arange(block)
        return model.decoder(x, positions, jnp.ones_like(positions), null)[1]

    longest = jnp.max(cache.length)
    empty = init_cache(model.config.decoder, 1, slots)
    null = jax.lax.while_loop(lambda null: null.length[0] < longest, feed, empty)
    k, v_ = (
        jnp.concatenate([a, jnp.repeat(b, rows, axis=1)], axis=1)
        for a, b in ((cache.k, null.k), (cache.v, null.v))
    )
    return KVCache(k, v_, jnp.tile(cache.length, 2))


def _sampler(model, modality: str, config: SamplingConfig):
    """A function (keys, step, hidden [B, D]) → the next token row [B, S] of every row.

    The permitted rows of the head are gathered here, before the loop, not once per token.
    """
    vocabulary, head = model.config.vocabulary, model.lm_head[...].astype(model.config.decoder.dtype)
    if modality == "text":
        rows = sampling.text_head(head, vocabulary)
        logits_of, to_ids = lambda hidden: sampling.text_logits(hidden, rows), sampling.text_ids
    else:
        rows, offset = sampling.audio_head(head, vocabulary), model.stream_emb[...]
        logits_of, to_ids = lambda hidden: sampling.audio_logits(hidden, rows, offset), sampling.audio_ids

    def draw(keys, i, hidden):
        logits = sampling.bar_terminators(logits_of(hidden), i < config.min_steps)
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
        return to_ids(sampling.sample(keys, logits, config), vocabulary)

    return draw
