"""Keys and values of many dialogues in pages of one pool, and attention through a table of pages.

A row's slots lie in pages that need not be neighbours, so rows of any length share the memory, several rows may read
one page, and a step costs what is used, not what is allocated. The pages of all layers are one array, so that a kernel
is given the whole pool and a number, never a copied layer.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from bagpiper_jax import parallel
from bagpiper_jax.models.configs import DecoderConfig

_HIDDEN = -1e30  # finite, as in `xla.masked_attention`
_LANES = 128
"""A multiple of it is the width of the heads that TPUs' kernel takes."""
_QUERIES, _SLOTS = 32, 512
"""Queries, and slots of keys, that the kernel holds at a time. Its own table of sizes asks the attached device, which
may not be the one that is compiled for."""

Heads = Float[Array, "B T H K"]
KeyValues = Float[Array, "B T KV K"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PagedCache:
    """The pool, and where the rows of one call lie in it. Page 0 of every layer takes what nobody wants to keep.

    Attributes:
        pages: [L·N, P, 2·KV, K] in the compute dtype: N pages of P slots for every layer; each key head, already
            rotated, before its value head.
        tables: int32 [B, W]; the pages of a row's slots in order, 0 where it has none.
        start: int32 [B]; the slot of the first token that is fed in this call.
        count: int32 [B]; tokens that are fed, the others are padding.
    """

    pages: Any
    tables: Any
    start: Any
    count: Any

    def attend(
        self, layer: Int[Array, ""], layers: int, query: Heads, key: KeyValues, value: KeyValues
    ) -> tuple[Heads, "PagedCache"]:
        """Stores the tokens' keys and values; then each token sees its row up to itself."""
        first = layer * (self.pages.shape[0] // layers)
        pages = in_place(_stored(self, first, key, value))
        ragged = parallel.platform() == "tpu" and query.shape[-1] % _LANES == 0
        attention = ragged_attention if ragged else paged_attention
        heads = _on_shards(attention, query, pages, self.tables + first, self.start, self.count)
        return heads, dataclasses.replace(self, pages=pages)


def page_shape(config: DecoderConfig, page: int) -> tuple[int, int, int, int]:
    """[L, P, 2·KV, K]: one page of all layers."""
    return config.layers, page, 2 * config.kv_heads, config.head_width


def empty_pages(
    config: DecoderConfig, pages: int, page: int, mesh: Mesh | None = None
) -> Float[Array, "LN P 2KV K"]:
    """A pool of `pages` pages of `page` slots, the one that nobody keeps among them, on a mesh or the first device."""
    layers, *rest = page_shape(config, page)
    sharding = None if mesh is None else NamedSharding(mesh, page_spec(mesh, config.kv_heads))
    return jnp.zeros((layers * pages, *rest), config.dtype, device=sharding)


def page_spec(mesh: Mesh | AbstractMesh, kv_heads: int) -> P:
    """How pages are divided: by their heads, if those divide over `tensor`. A key head stays beside its value head."""
    return parallel.partition(mesh, (None, None, "kv_heads"), (1, 1, kv_heads))


def in_place(pages: Float[Array, "LN P 2KV K"]) -> Float[Array, "LN P 2KV K"]:
    """The pool, laid out on the mesh in use as `empty_pages` does it, so that programs hand it on as it is."""
    mesh = parallel.mesh_in_use()
    if mesh is None:
        return pages
    return jax.lax.with_sharding_constraint(pages, page_spec(mesh, pages.shape[2] // 2))


def _stored(cache: PagedCache, first, key: KeyValues, value: KeyValues):
    size = cache.pages.shape[1]
    offset = jnp.arange(key.shape[1])
    slots = cache.start[:, None] + offset
    page = jnp.take_along_axis(cache.tables, slots // size, axis=1, mode="fill", fill_value=0)
    both = jnp.stack([key, value], axis=3).reshape(*key.shape[:2], -1, key.shape[-1])
    # Padding is stored as zeros, so that the page of waste never holds what isn't a number.
    kept = (offset < cache.count[:, None])[..., None, None]
    return cache.pages.at[page + first, slots % size].set(jnp.where(kept, both, 0))


def _on_shards(attention: Callable, query: Heads, pages, tables, start, count) -> Heads:
    """Runs `attention` on each device's own rows and heads."""
    mesh = parallel.mesh_in_use()
    if mesh is None:
        return attention(query, pages, tables, start, count)
    kept = page_spec(mesh, pages.shape[2] // 2)
    (rows,) = parallel.partition(mesh, ("batch",), query.shape)
    own = P(rows, None, kept[2])
    return parallel.per_shard(
        attention, (query, pages, tables, start, count), (own, kept, P(rows), P(rows), P(rows)), own
    )


def paged_attention(
    query: Heads,
    pages: Float[Array, "N P 2KV K"],
    tables: Int[Array, "B W"],
    start: Int[Array, " B"],
    count: Int[Array, " B"],
) -> Heads:
    """Grouped-query attention over pages in plain XLA, page by page, each row up to its own last one.

    Rows are sorted, the longest first. Each time that half of them have ended, a loop over the other half goes on: work
    follows the pages in use, and a row's pages are added in their order, whoever is beside it. Scores and softmax in
    float32. What a padding token gets is to be ignored.
    """
    size, known = pages.shape[1], start + count
    order = jnp.argsort(-known)
    read = jnp.minimum((known[order] - 1) // size + 1, tables.shape[1])
    asking = _Asking(query[order], tables[order], start[order], known[order])
    state, begun = asking.nothing(pages), jnp.int32(0)
    for rows, fewer in itertools.pairwise([*_halves(len(order)), 0]):
        # While more than `fewer` rows have pages left: the next of the sorted rows has the most of those behind.
        ended = jnp.maximum(begun, read[fewer])
        add = functools.partial(asking.first(rows).add_page, pages)
        part = jax.lax.fori_loop(begun, ended, add, tuple(x[:rows] for x in state))
        state, begun = tuple(x.at[:rows].set(new) for x, new in zip(state, part, strict=True)), ended
    _, total, found = state
    return _as_heads(found / total, query)[jnp.argsort(order)]


def _halves(rows: int) -> list[int]:
    """So many, half as many, and so on down to one."""
    found = [rows]
    while found[-1] > 1:
        found.append(found[-1] // 2)
    return found


@dataclasses.dataclass(frozen=True)
class _Asking:
    """Rows that read pages.

    Attributes:
        query: [B, T, H, K].
        tables: [B, W].
        start, known: [B]; the slot of the first token, and one behind that of the last.
    """

    query: Any
    tables: Any
    start: Any
    known: Any

    def first(self, rows: int) -> "_Asking":
        """So many of the rows."""
        return _Asking(*(getattr(self, field.name)[:rows] for field in dataclasses.fields(self)))

    def nothing(self, pages):
        """Before any page: the highest score, the sum of weights, and the weighted sum of values."""
        rows, length, heads, width = self.query.shape
        groups = pages.shape[2] // 2
        shape = rows, groups, heads // groups * length
        return jnp.full((*shape, 1), _HIDDEN), jnp.zeros((*shape, 1)), jnp.zeros((*shape, width), jnp.float32)

    def add_page(self, pages, number, state):
        """The state after page `number` of every row."""
        highest, total, found = state
        (rows, length, heads, width), (_, size, both, _) = self.query.shape, pages.shape
        groups, repeats = both // 2, 2 * heads // both
        block = pages[self.tables[:, number]].reshape(rows, size, groups, 2, width)
        slots, known = number * size + jnp.arange(size), self.known[:, None]
        # A page may have belonged to a row of what isn't a number, and nothing times that isn't nothing.
        value = jnp.where((slots < known)[..., None, None], block[:, :, :, 1], 0)
        grouped = self.query.reshape(rows, length, groups, -1, width).transpose(0, 2, 3, 1, 4) * width**-0.5
        grouped = grouped.reshape(rows, groups, -1, width)
        # Keys first: XLA on CPU would transpose each of them to be second.
        scores = jnp.einsum("bunk,bnqk->bnuq", block[:, :, :, 0], grouped, preferred_element_type=jnp.float32)
        scores = scores.swapaxes(2, 3)
        position = self.start[:, None] + jnp.arange(length)
        seen = (slots <= position[..., None]) & (slots < known[..., None])
        scores = jnp.where(jnp.tile(seen, (1, repeats, 1))[:, None], scores, _HIDDEN)
        higher = jnp.maximum(highest, jnp.max(scores, axis=-1, keepdims=True))
        weights, shrunk = jnp.exp(scores - higher), jnp.exp(highest - higher)
        added = jnp.einsum(
            "bnqu,bunk->bnqk", weights.astype(value.dtype), value, preferred_element_type=jnp.float32
        )
        return higher, total * shrunk + jnp.sum(weights, axis=-1, keepdims=True), found * shrunk + added


def _as_heads(grouped, query: Heads) -> Heads:
    """[B, KV, H/KV·T, K] → [B, T, H, K]."""
    rows, length, heads, width = query.shape
    groups = grouped.shape[1]
    heads_first = grouped.astype(query.dtype).reshape(rows, groups, -1, length, width)
    return heads_first.transpose(0, 3, 1, 2, 4).reshape(query.shape)


def ragged_attention(query: Heads, pages, tables, start, count) -> Heads:
    """The same by the kernel that JAX ships for TPUs."""
    # Loaded here: few processes have a TPU.
    from jax.experimental.pallas.ops.tpu.ragged_paged_attention import ragged_paged_attention

    rows, length, heads, width = query.shape
    flat = ragged_paged_attention(
        query.reshape(rows * length, heads, width),
        pages,
        start + length,
        tables,
        jnp.arange(rows + 1, dtype=jnp.int32) * length,
        jnp.full(1, rows, jnp.int32),
        sm_scale=width**-0.5,
        num_queries_per_block=min(_QUERIES, rows * length),
        num_kv_pages_per_block=min(max(1, _SLOTS // pages.shape[1]), tables.shape[1]),
    )
    return flat.reshape(query.shape)
