"""The decode step of an engine, compiled ahead of time: the program that `generation.engine` runs."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from bagpiper_jax import parallel
from bagpiper_jax.generation import sampling
from bagpiper_jax.generation.config import EngineConfig, WeightsConfig
from bagpiper_jax.generation.pool import pages_of
from bagpiper_jax.generation.programs import programs
from bagpiper_jax.generation.rows import as_orders, as_rows
from bagpiper_jax.models.attention.paged import page_shape, page_spec
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.models.parameters import unflatten
from bagpiper_jax.training.state import model_definition
from bagpiper_jax.training.weights import abstract_weights


@dataclasses.dataclass(frozen=True)
class EngineStep:
    """A step of all rows, with the shapes and shardings of what it is given.

    Attributes:
        model, engine: sizes.
        weights: where the model lies on `mesh`, and in which precision.
        guided: every row has an unconditional branch.
    """

    model: BagpiperConfig
    engine: EngineConfig
    weights: WeightsConfig
    mesh: Mesh
    guided: bool

    @functools.cached_property
    def parameters(self) -> dict[str, Any]:
        """Abstract parameters by path."""
        return abstract_weights(self.model, self.weights.dtype, self.mesh)

    @functools.cached_property
    def _split(self) -> tuple[nnx.GraphDef, list[Any], Any]:
        model = nnx.merge(model_definition(self.model), unflatten(self.parameters))
        graph, state = nnx.split(model)
        return graph, *jax.tree.flatten(state)

    @functools.cached_property
    def heads(self) -> sampling.Heads:
        """The permitted rows of the head, divided as `sampling.heads` divides them."""
        graph, leaves, tree = self._split
        found = jax.eval_shape(
            lambda p: sampling.heads(nnx.merge(graph, jax.tree.unflatten(tree, p))), leaves
        )
        return sampling.Heads(
            marker=self._on_mesh(found.marker),
            text=self._on_mesh(found.text, ("vocab",)),
            audio=self._on_mesh(found.audio, (None, "vocab")),
            offset=self._on_mesh(found.offset),
        )

    @property
    def given(self) -> tuple[dict[str, Any], sampling.Heads]:
        """What the step is given besides pages and a few numbers for each row: the decoder and the heads."""
        return {n: x for n, x in self.parameters.items() if n.startswith("decoder/")}, self.heads

    def _on_mesh(self, x, axes: tuple[str | None, ...] = ()) -> jax.ShapeDtypeStruct:
        spec = parallel.partition(self.mesh, axes, x.shape)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(self.mesh, spec))

    def _pool(self, pages: int) -> jax.ShapeDtypeStruct:
        decoder = self.model.decoder
        layers, *rest = page_shape(decoder, self.engine.page)
        sharding = NamedSharding(self.mesh, page_spec(self.mesh, decoder.kv_heads))
        return jax.ShapeDtypeStruct((layers * pages, *rest), decoder.dtype, sharding=sharding)

    def compile(self, pages: int, options: Mapping[str, Any] | None = None) -> jax.stages.Compiled:
        """Compiles the step for a pool of so many pages.

        Args:
            options: the options of the compiler.
        """
        engine, rows = self.engine, self.engine.rows
        width = pages_of(engine.context + engine.steps, engine.page)
        tables = np.zeros((rows * (1 + self.guided), width), np.int32)
        small = (
            as_rows([], rows, self.model.vocabulary.num_streams),
            as_orders([], rows, tables),
            np.int32(0),
            np.int32(0),
        )
        graph, leaves, tree = self._split
        step = programs(graph, tree, self.model.decoder.layers).advance
        with jax.set_mesh(self.mesh):
            lowered = step.lower(
                leaves, self.heads, self._pool(pages), *jax.tree.map(self._on_mesh, small), most=engine.steps
            )
            return lowered.compile(compiler_options=options)
