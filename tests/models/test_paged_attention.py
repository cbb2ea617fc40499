"""Attention through pages against the reference that JAX ships beside its TPU kernel, and against no pages at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas.ops.tpu.ragged_paged_attention import ref_ragged_paged_attention

from bagpiper_jax.models.attention.paged import PagedCache, paged_attention

PAGES, SIZE, HEADS, GROUPS, WIDTH = 12, 4, 6, 2, 8


def made(start, length, seed=0):
    """Queries, a pool, and a table of pages in any order for rows that begin at `start`."""
    rng = np.random.default_rng(seed)
    rows = len(start)
    query = rng.normal(size=(rows, length, HEADS, WIDTH)).astype(np.float32)
    pages = rng.normal(size=(PAGES, SIZE, 2 * GROUPS, WIDTH)).astype(np.float32)
    tables = rng.permutation(np.arange(1, PAGES))[: rows * 3].reshape(rows, 3).astype(np.int32)
    return query, pages, tables, np.array(start, np.int32)


@pytest.mark.parametrize("start, length", [([0, 4, 11], 1), ([0, 3, 7], 5), ([0, 0, 0], 12)])
def test_paged_attention_equals_jax_s_reference(start, length):
    query, pages, tables, start = made(start, length)
    expected = ref_ragged_paged_attention(
        jnp.asarray(query.reshape(-1, HEADS, WIDTH)), jnp.asarray(pages), jnp.asarray(start + length),
        jnp.asarray(tables), jnp.arange(len(start) + 1) * length, jnp.array([len(start)]), sm_scale=WIDTH**-0.5,
    )  # fmt: skip
    found = jax.jit(paged_attention)(query, pages, tables, start, np.full(len(start), length))
    np.testing.assert_allclose(np.reshape(found, expected.shape), expected, atol=1e-5)


def test_what_lies_beyond_a_row_is_never_seen():
    query, pages, tables, start = made([2, 6, 9], 3)
    count = np.array([3, 1, 2])
    attention = jax.jit(paged_attention)
    found = attention(query, pages, tables, start, count)
    stale = pages.copy()
    for row in range(3):
        slots = np.arange(12)
        beyond = slots[slots >= start[row] + count[row]]
        stale[tables[row, beyond // SIZE], beyond % SIZE] = np.nan
    again = attention(query, stale, tables, start, count)
    for row in range(3):
        np.testing.assert_array_equal(again[row, : count[row]], found[row, : count[row]])


def test_tokens_are_stored_where_the_table_says_and_padding_nowhere():
    _, pages, tables, start = made([2, 6], 4)
    two_layers = np.concatenate([pages, pages])
    rng = np.random.default_rng(1)
    query = rng.normal(size=(2, 4, HEADS, WIDTH)).astype(np.float32)
    key, value = rng.normal(size=(2, 2, 4, GROUPS, WIDTH)).astype(np.float32)
    cache = PagedCache(jnp.asarray(two_layers), tables, start, np.array([4, 1], np.int32))
    _, after = jax.jit(PagedCache.attend, static_argnums=2)(cache, 1, 2, query, key, value)
    expected = two_layers.copy()
    for row, token in [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]:
        slot = start[row] + token
        place = expected[PAGES + tables[row, slot // SIZE], slot % SIZE]
        place[0::2], place[1::2] = key[row, token], value[row, token]
    changed = np.any(np.asarray(after.pages) != expected, axis=(2, 3))
    # Padding is zeros behind the row, in its own page, where the next token will overwrite it.
    behind = [(PAGES + tables[1, (6 + t) // SIZE], (6 + t) % SIZE) for t in (1, 2, 3)]
    assert set(zip(*np.nonzero(changed), strict=True)) == set(behind)
    assert not any(np.any(after.pages[place]) for place in behind)
