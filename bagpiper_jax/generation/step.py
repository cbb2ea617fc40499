"""The compiled step: rows of different requests, each in a phase of its own, advance together.

Every running row feeds one token a step. What it feeds and what becomes of it follows from its phase:

    CLOSE   the last token of a segment, streams above 0 zeroed            → OPEN
    OPEN    `<assistant>`; the next segment's modality is chosen           → TEXT or AUDIO, or UNGUIDED
    TEXT, AUDIO   the marker, then what was drawn; draws the next token    → the same, or STOPPED

The phases from UNGUIDED on wait for the host. A row that does not run goes on feeding its token to the same slot, which
changes nothing: whatever lies there is overwritten before it can be seen.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from bagpiper_jax import vocabulary as v
from bagpiper_jax.generation import sampling
from bagpiper_jax.generation.sampling import MARKERS, Heads
from bagpiper_jax.models.attention.paged import PagedCache
from bagpiper_jax.models.bagpiper import Bagpiper

IDLE, CLOSE, OPEN, TEXT, AUDIO, UNGUIDED_TEXT, UNGUIDED_AUDIO, STOPPED, POISONED = range(9)
"""Phases. UNGUIDED: the segment is chosen and its unconditional branch not there yet. STOPPED: the segment has ended.
POISONED: what the model gave is no number."""

_UNGUIDE = UNGUIDED_TEXT - TEXT


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """The state of R rows.

    Attributes:
        token: int32 [R, S]; fed next.
        position: int32 [R]; the slot it goes to.
        phase: int32 [R].
        step: int32 [R]; tokens of the segment so far.
    """

    token: Any
    position: Any
    phase: Any
    step: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Orders:
    """What does not change within a call.

    Attributes:
        tables: int32 [R + N, W]; pages of the rows, then of the unconditional branches of the first N of them.
        seed: uint32 [R]; of the request.
        segment: int32 [R]; which of the request's segments it is, or will be.
        wanted: int32 [R]; the enforced modality of a segment that opens, or -1.
        temperature, guidance: float32 [R, 2]; of text and of audio.
        top_k, min_steps, max_steps: int32 [R, 2].
    """

    tables: Any
    seed: Any
    segment: Any
    wanted: Any
    temperature: Any
    guidance: Any
    top_k: Any
    min_steps: Any
    max_steps: Any


def is_running(phase):
    return (phase >= CLOSE) & (phase <= AUDIO)


def advance(
    model: Bagpiper, heads: Heads, pages: Any, rows: Rows, orders: Orders, steps: Any, enough: Any, most: int
) -> tuple[Any, Rows, Any, Any]:
    """Runs up to `steps` steps, or until no more than `enough` rows are running.

    Args:
        pages: the pool, see `models.attention.paged`.
        most: the largest number of `steps`; static.

    Returns:
        the pool; the rows' new state; the drawn tokens, int32 [most, R, S]; and what each of them is, int32
        [most, R]: 0 nothing, TEXT or AUDIO.
    """
    keys = jax.vmap(lambda seed, n: jax.random.fold_in(jax.random.key(seed), n))(orders.seed, orders.segment)

    def unfinished(state):
        i, _, rows, _, _ = state
        return (i < steps) & (jnp.sum(is_running(rows.phase)) > enough)

    def step(state):
        i, pages, rows, drawn, kinds = state
        pages, rows, token, kind = _step(model, heads, pages, rows, orders, keys)
        return i + 1, pages, rows, drawn.at[i].set(token), kinds.at[i].set(kind)

    count, streams = rows.token.shape
    drawn, kinds = jnp.zeros((most, count, streams), jnp.int32), jnp.zeros((most, count), jnp.int32)
    return jax.lax.while_loop(unfinished, step, (jnp.int32(0), pages, rows, drawn, kinds))[1:]


def _step(model: Bagpiper, heads: Heads, pages, rows: Rows, orders: Orders, keys):
    modality = jnp.clip(rows.phase - TEXT, 0, 1)
    hidden, pages = _feed(model, pages, rows, orders, modality)
    token, finite = _draw(model, heads, hidden, rows, orders, modality, keys)
    opened = _opened(heads, hidden, orders)
    drawing = (rows.phase == TEXT) | (rows.phase == AUDIO)
    ended = _is_terminator(token) | (rows.step + 1 >= _own(orders.max_steps, modality))
    poisoned = is_running(rows.phase) & ~(jnp.all(jnp.isfinite(hidden), axis=-1) & finite)

    following = _special(token, ended)
    phase = jnp.where(ended, STOPPED, rows.phase)
    opening = rows.phase == OPEN
    phase = jnp.where(opening, opened, phase)
    marker = jnp.array(MARKERS, jnp.int32)[(opened - TEXT) % _UNGUIDE]
    following = jnp.where(opening[:, None], _first(marker, following), following)
    closing = rows.phase == CLOSE
    phase = jnp.where(closing, OPEN, phase)
    following = jnp.where(closing[:, None], _first(v.ASSISTANT, following), following)

    moves = is_running(rows.phase) & ~poisoned
    kept = Rows(
        token=jnp.where(moves[:, None], following, rows.token),
        position=rows.position + moves,
        phase=jnp.where(poisoned, POISONED, jnp.where(moves, phase, rows.phase)),
        step=jnp.where(drawing, rows.step + moves, 0),
    )
    kind = jnp.where(drawing & moves, rows.phase, 0)
    return pages, kept, token, kind


def _feed(model: Bagpiper, pages, rows: Rows, orders: Orders, modality):
    """Hidden states [R, D], guided where they are to be, and the pool with the tokens stored."""
    branches = len(orders.tables) - len(rows.token)
    token, position = (jnp.concatenate([x, x[:branches]]) for x in (rows.token, rows.position))
    cache = PagedCache(pages, orders.tables, position, jnp.ones_like(position))
    x = model.embed(token[:, None])
    hidden, cache = model.decoder(x, position[:, None], jnp.ones_like(position)[:, None], cache)
    hidden, null = jnp.split(hidden[:, 0], [len(rows.token)])
    if branches:
        drawing = (rows.phase == TEXT) | (rows.phase == AUDIO)
        guidance = jnp.where(drawing, _own(orders.guidance, modality), 1)[:branches]
        guided = sampling.guide(hidden[:branches], null, guidance)
        guided = jnp.where(guidance[:, None] > 1, guided, hidden[:branches])
        hidden = hidden.at[:branches].set(guided)
    return hidden, cache.pages


def _draw(model: Bagpiper, heads: Heads, hidden, rows: Rows, orders: Orders, modality, keys):
    """The next token row [R, S] of the rows in TEXT and AUDIO, and whether its logits are numbers.

    A step in which no row writes text multiplies no text head, and likewise for audio.
    """
    vocabulary = model.config.vocabulary
    keys = jax.vmap(jax.random.fold_in)(keys, rows.step)
    barred = rows.step < _own(orders.min_steps, modality)
    temperature, top_k = _own(orders.temperature, modality), _own(orders.top_k, modality)

    def choose(logits, here):
        logits = sampling.bar_terminators(logits, barred)
        choice = sampling.sample(keys, logits, jnp.where(here, temperature, 0), top_k)
        return choice, jnp.all(jnp.isfinite(jnp.max(logits, axis=-1)), axis=-1)

    def text(found):
        choice, finite = choose(sampling.text_logits(hidden, heads.text)[:, None], rows.phase == TEXT)
        return _where(rows.phase == TEXT, (sampling.text_ids(choice[:, 0], vocabulary), finite), found)

    def audio(found):
        choice, finite = choose(sampling.audio_logits(hidden, heads), rows.phase == AUDIO)
        return _where(rows.phase == AUDIO, (sampling.audio_ids(choice, vocabulary), finite), found)

    found = jnp.zeros_like(rows.token), jnp.ones(len(rows.token), bool)
    found = jax.lax.cond(jnp.any(rows.phase == TEXT), text, lambda found: found, found)
    return jax.lax.cond(jnp.any(rows.phase == AUDIO), audio, lambda found: found, found)


def _opened(heads: Heads, hidden, orders: Orders):
    """The phase of a row that opens: the enforced modality's, else that of the likelier marker."""
    likelier = jnp.argmax(sampling.text_logits(hidden, heads.marker), axis=-1).astype(jnp.int32)
    chosen = jnp.where(orders.wanted >= 0, orders.wanted, likelier)
    return TEXT + chosen + jnp.where(_own(orders.guidance, chosen) > 1, _UNGUIDE, 0)


def _own(settings, modality):
    return jnp.take_along_axis(settings, modality[:, None], axis=1)[:, 0]


def _is_terminator(token):
    return (token[:, 0] == v.EOS) | (token[:, 0] == v.EOT)


def _special(token, ended):
    """The token as it is fed: the last one of a segment has nothing above stream 0."""
    return jnp.where(ended[:, None], _first(token[:, 0], token), token)


def _first(stream_0, like):
    return jnp.zeros_like(like).at[:, 0].set(stream_0)


def _where(condition, new, old):
    return jax.tree.map(lambda a, b: jnp.where(condition.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, old)
