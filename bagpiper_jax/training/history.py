"""Disturbed history: what a model sees of the audio it has written so far is not always true.

The frame before tells the next one so well that a small model hardly needs the caption: only a sound's first frames
depend on what was asked for. When it generates, its first wrong frame then outweighs the caption for good. Seeing
frames of other sounds among its own teaches it to ask the caption again (scheduled sampling, arXiv 1506.03099,
without the cost of sampling). The release trains without; targets and loss are the same either way.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from bagpiper_jax.batch import Batch

RUN = 4
"""Slots disturbed together. A single strange frame between true neighbours would hardly matter."""


def disturb(key: Key[Array, ""], batch: Batch, share: float) -> Int[Array, "B T S"]:
    """The tokens of a batch as input, with runs of generated codec frames replaced by others of the same row.

    Args:
        key: the draw.
        batch: the batch; its conditions, markers and terminators stay as they are.
        share: mean share of replaced frames; each row draws its own between 0 and twice that.
    """
    tokens = batch.tokens
    audio = (tokens[..., 1] != 0) & (batch.loss_weights[..., 0] != 0)
    rows, slots = audio.shape
    chosen, shift = _draw_runs(key, rows, slots, share)
    rank, count = jnp.cumsum(audio, axis=1) - 1, jnp.sum(audio, axis=1, keepdims=True)
    audio_slots = jnp.argsort(~audio, axis=1, stable=True)
    source = jnp.take_along_axis(audio_slots, (rank + shift) % jnp.maximum(count, 1), axis=1)
    others = jnp.take_along_axis(tokens, source[..., None], axis=1)
    return jnp.where((chosen & audio)[..., None], others, tokens)


def _draw_runs(key, rows: int, slots: int, share: float):
    """Which slots are replaced, bool [B, T], and by which audio frame further on, int [B, T]; both run by run."""
    of_row, of_run, of_source = jax.random.split(key, 3)
    runs = -(-slots // RUN)
    shares = 2 * share * jax.random.uniform(of_row, (rows, 1))
    chosen = jax.random.uniform(of_run, (rows, runs)) < shares
    shift = jax.random.randint(of_source, (rows, runs), 0, slots)
    return tuple(jnp.repeat(x, RUN, axis=1)[:, :slots] for x in (chosen, shift))
