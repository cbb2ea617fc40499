"""The compiled programs of an engine: prompts in, steps, and pages moved. The pool is donated to all that write it."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from bagpiper_jax.generation import sampling
from bagpiper_jax.generation.step import advance
from bagpiper_jax.models.attention.paged import PagedCache, in_place
from bagpiper_jax.models.bagpiper import Bagpiper


class Programs(NamedTuple):
    """Jitted functions of the model's parameters, given as their leaves: a list costs less per call than a module.

    Attributes:
        heads: (parameters) → `sampling.Heads`.
        hear: (parameters, mel, chunk_frames, chunk_clip, chunk_window) → audio features [G, C·13, D].
        prefill: (parameters, pages, tokens, features, heard, start, count, tables) → pages; see `_prefill`.
        advance: see `step.advance`.
        copy, take, put: one page in the pool: (pages, to, source) → pages; (pages, number) → its content; (pages,
            number, content) → pages.
    """

    heads: Any
    hear: Any
    prefill: Any
    advance: Any
    copy: Any
    take: Any
    put: Any


@functools.lru_cache(maxsize=4)
def programs(graph: nnx.GraphDef, tree: Any, layers: int, mesh: Mesh | None = None) -> Programs:
    """The programs of every model of this structure, on a mesh if its parameters lie on one."""

    def of_model(function, **options):
        def run(parameters, *arguments, **settings):
            return function(nnx.merge(graph, jax.tree.unflatten(tree, parameters)), *arguments, **settings)

        return jax.jit(run, **options)

    def numbers(pages, page):
        return page + jnp.arange(layers) * (pages.shape[0] // layers)

    def take(pages, page):
        return pages[numbers(pages, page)]

    def put(pages, page, content):
        return in_place(pages.at[numbers(pages, page)].set(content))

    found = Programs(
        heads=of_model(sampling.heads),
        hear=of_model(lambda model, *chunks: model.audio_features(*chunks)),
        prefill=of_model(_prefill, donate_argnums=1),
        advance=of_model(advance, donate_argnums=2, static_argnames="most"),
        copy=jax.jit(lambda pages, to, source: put(pages, to, take(pages, source)), donate_argnums=0),
        take=jax.jit(take),
        put=jax.jit(put, donate_argnums=0),
    )
    return found if mesh is None else Programs(*(_on_mesh(program, mesh) for program in found))


def _on_mesh(program: Callable, mesh: Mesh) -> Callable:
    def run(*arguments, **settings):
        with jax.set_mesh(mesh):
            return program(*arguments, **settings)

    return run


def _prefill(
    model: Bagpiper,
    pages: Array,
    tokens: Int[Array, "B T S"],
    features: Float[Array, "B T D"],
    heard: Bool[Array, "B T"],
    start: Int[Array, " B"],
    count: Int[Array, " B"],
    tables: Int[Array, "B W"],
) -> Array:
    """Feeds up to T tokens to each of B rows; where `heard`, an audio feature instead of the token's embedding."""
    x = jnp.where(heard[..., None], features.astype(model.config.decoder.dtype), model.embed(tokens))
    position = start[:, None] + jnp.arange(tokens.shape[1])
    cache = PagedCache(pages, tables, start, count)
    return model.decoder(x, position, jnp.ones_like(position), cache)[1].pages
