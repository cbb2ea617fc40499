"""LoRA: a matrix W stays as it is, and scale · a · b of a low rank is added to what it does (arXiv 2106.09685).

An adapter is parameters like any others, beside the model's: `lora/<path>/a` and `/b` train, `lora_scale/<path>` and
`lora_base` stay. `joined` puts them where the model finds them: an `Adapted` stands in the place of each array W,
stacked over layers as W is, so scan, remat and meshes treat both alike.
"""

import dataclasses
import math
import re
import types
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from bagpiper_jax.errors import Explained
from bagpiper_jax.models import fingerprints, quantized
from bagpiper_jax.models.precision import Precision, in_precision

TRAINED, SCALE, BASE, _KEY = "lora/", "lora_scale/", "lora_base", "lora_key"
"""Beginnings of the paths of an adapter's parameters; the fingerprint of its base; the draw of dropout."""

ATTACHABLE: dict[str, int] = {**quantized.INPUTS, "adaptor/kernel": 1, "stream_emb": 1}
"""Path of what can have an adapter → how many of its axes are inputs. Tables of the vocabulary cannot: no server would
take them."""

_STACKED = "decoder/layers/"

Parameters = Mapping[str, Any]


class AdapterError(Explained, ValueError):
    """An adapter that attaches to nothing, or is that of another model; the message names the remedy."""


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """A LoRA adapter.

    Attributes:
        targets: patterns of whole paths; what one of them matches gets an adapter, see `ATTACHABLE`. The default is all
            matrices of the decoder's layers.
        rank: the rank r of each change, at least 1.
        alpha: the change is scaled by alpha / r.
        rank_stabilised: it is scaled by alpha / √r instead (rsLoRA, arXiv 2312.03732).
        dropout: share of a matrix's inputs that its change does not see while it trains.
        base: what the matrices that stay are kept as while the adapter trains. bfloat16 gives what float32 gives
            wherever the model computes in bfloat16; int8 halves the decoder's layers once more, and rounds them.
    """

    targets: tuple[str, ...] = (_STACKED + ".*",)
    rank: int = 16
    alpha: float = 32.0
    rank_stabilised: bool = False
    dropout: float = 0.0
    base: Precision = "bfloat16"

    def __post_init__(self):
        if self.rank < 1:
            raise AdapterError(f"LoraConfig.rank is {self.rank}; a change needs a rank of at least 1")
        if not 0 <= self.dropout < 1:
            raise AdapterError(f"LoraConfig.dropout {self.dropout} must be at least 0 and less than 1")
        for pattern in self.targets:
            try:
                re.compile(pattern)
            except re.error as error:
                raise AdapterError(f"LoraConfig.targets: {pattern!r} is no pattern: {error}") from error

    @property
    def scale(self) -> float:
        """What a · b is multiplied by."""
        return scale_of(self.rank, self.alpha, self.rank_stabilised)


def scale_of(rank: int, alpha: float, rank_stabilised: bool) -> float:
    """What a change of this rank is multiplied by."""
    return alpha / (math.sqrt(rank) if rank_stabilised else rank)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Adapted:
    """A matrix and its change; it stands where a parameter's array would.

    Attributes:
        base: the matrix [I, …, O, …], an array or a `Quantized`; of all layers, as the rest, with a first axis L.
        a, b: float32 [I, r] and [r, O], inputs and outputs each on one axis.
        scale: float32 [], of the change.
        key: the draw of dropout, None where nothing is dropped.
        dropout: share of the inputs that the change does not see.
    """

    base: Any
    a: Any
    b: Any
    scale: Any
    key: Any = None
    dropout: float = dataclasses.field(default=0.0, metadata={"static": True})

    def __getitem__(self, index: types.EllipsisType) -> "Adapted":
        """All of it: modules read every parameter as `weight[...]`."""
        return self

    def reshape(self, *shape: int) -> "Adapted":
        """The same with other axes of inputs; the change has one of them anyway."""
        return dataclasses.replace(self, base=self.base.reshape(*shape))

    def seen(self, x: Float[Array, "... I"]) -> Float[Array, "... I"]:
        """What the change sees of the inputs."""
        if self.key is None:
            return x
        kept = jax.random.bernoulli(self.key, 1 - self.dropout, x.shape)
        return jnp.where(kept, x / (1 - self.dropout), 0).astype(x.dtype)


def paths(config: LoraConfig, shapes: Parameters) -> list[str]:
    """The paths that an adapter attaches to, of a model's parameters or their shapes.

    Raises:
        AdapterError: a pattern matches none, as it would be if the adapter trained and changed nothing.
    """
    candidates = [path for path in ATTACHABLE if path in shapes]
    for pattern in config.targets or ("",):
        if not any(re.fullmatch(pattern, path) for path in candidates):
            raise AdapterError(
                f"LoraConfig.targets: {pattern!r} matches nothing that can have an adapter; there are "
                + ", ".join(candidates)
            )
    return [path for path in candidates if any(re.fullmatch(p, path) for p in config.targets)]


def flat_shape(path: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int, int]:
    """(leading axes, inputs, outputs) of a matrix: what its change is made of."""
    leading = 1 if path.startswith(_STACKED) else 0
    inputs = leading + ATTACHABLE[path]
    return shape[:leading], math.prod(shape[leading:inputs]), math.prod(shape[inputs:])


def attached(config: LoraConfig, parameters: Parameters, seed: int) -> dict[str, Any]:
    """The model's parameters in the precision of the base, and beside them an adapter that changes nothing yet.

    Args:
        parameters: of the model, as arrays or `Quantized`; the fingerprint of the base among them if it is known.
        seed: of the draw of a, uniform within ±1/√I as PEFT draws it; b is zero.
    """
    found: dict[str, Any] = {BASE: jnp.zeros(fingerprints.WORDS, jnp.uint32)}
    for path in paths(config, parameters):
        matrix = parameters[path]
        shape = (matrix.values if isinstance(matrix, quantized.Quantized) else matrix).shape
        leading, inputs, outputs = flat_shape(path, shape)
        key, limit = jax.random.fold_in(jax.random.key(seed), zlib.crc32(path.encode())), inputs**-0.5
        a = jax.random.uniform(key, (*leading, inputs, config.rank), minval=-limit, maxval=limit)
        found[f"{TRAINED}{path}/a"] = a
        found[f"{TRAINED}{path}/b"] = jnp.zeros((*leading, config.rank, outputs))
        found[SCALE + path] = jnp.full(leading, config.scale, jnp.float32)
    kept = {path: x if path == BASE else in_precision(path, x, config.base) for path, x in parameters.items()}
    return found | kept


def own(parameters: Parameters) -> dict[str, Any]:
    """The adapter's parameters alone; none if there is no adapter."""
    return {path: x for path, x in parameters.items() if path.startswith((TRAINED, SCALE, BASE))}


def stored(parameters: Parameters) -> dict[str, Any]:
    """What a checkpoint holds: the adapter if there is one, else everything."""
    return own(parameters) or dict(parameters)


def targets_of(parameters: Parameters) -> list[str]:
    """The paths that the adapter among the parameters changes."""
    return [path.removeprefix(SCALE) for path in parameters if path.startswith(SCALE)]


def counted(parameters: Parameters) -> str:
    """What an adapter is attached to, for the log."""
    targets = targets_of(parameters)
    changes = sum(math.prod(parameters[SCALE + path].shape) for path in targets)
    size = sum(x.size for path, x in parameters.items() if path.startswith(TRAINED))
    return f"{changes} matrices changed, {size:,} parameters train ({', '.join(targets)})"


def with_draw(parameters: Parameters, key: Key[Array, ""]) -> dict[str, Any]:
    """The parameters with what `joined` draws dropout from."""
    return {**parameters, _KEY: key}


def joined(parameters: Parameters, dropout: float = 0.0) -> dict[str, Any]:
    """The model's parameters, changed by the adapter among them: what `nnx.merge` takes. Without one, the same.

    Args:
        parameters: of the model and the adapter.
        dropout: `LoraConfig.dropout`; nothing is dropped unless `with_draw` gave a draw.
    """
    beside = (TRAINED, SCALE, BASE, _KEY)
    found = {path: x for path, x in parameters.items() if not path.startswith(beside)}
    for path in targets_of(parameters):
        a, b, scale = change_of(parameters, path)
        if path == "stream_emb":  # a table of eight rows, that is looked up and added
            found[path] = merged(found[path], a, b, scale)
            continue
        key = None
        if dropout and _KEY in parameters:
            key = jax.random.fold_in(parameters[_KEY], zlib.crc32(path.encode()))
            key = jax.random.split(key, scale.shape) if scale.shape else key
        found[path] = Adapted(found[path], a, b, scale, key, dropout)
    return found


def change_of(parameters: Parameters, path: str) -> tuple[Any, Any, Any]:
    """(a, b, scale) of the adapter at a path."""
    return parameters[f"{TRAINED}{path}/a"], parameters[f"{TRAINED}{path}/b"], parameters[SCALE + path]


def merged(matrix: Any, a: Any, b: Any, scale: Any) -> Float[Array, "..."]:
    """The matrix with its change added, float32: in bfloat16 most of the change would be rounded away."""
    change = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST) * scale[..., None, None]
    return matrix.astype(jnp.float32) + change.reshape(matrix.shape)
