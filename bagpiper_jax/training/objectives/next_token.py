"""The next token of every stream, cross-entropy weighted as the batch says."""

import dataclasses

import jax
from flax import nnx

from bagpiper_jax.batch import Batch
from bagpiper_jax.dialogue import DIRECTIONS
from bagpiper_jax.models.adapters import lora
from bagpiper_jax.models.parameters import unflatten
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.losses import LossSums, loss_sums
from bagpiper_jax.training.objectives import Objective
from bagpiper_jax.training.partition import Parameters
from bagpiper_jax.training.state import model_definition


def next_token(config: TrainConfig) -> Objective:
    """The objective of pretraining and of tuning."""
    definition = model_definition(config.model)
    dropout = config.adapter.dropout if config.adapter else 0.0

    def loss(parameters: Parameters, batch: Batch, seen: jax.Array | None = None) -> LossSums:
        model = nnx.merge(definition, unflatten(lora.joined(parameters, dropout)))
        return loss_sums(
            model.hidden(batch if seen is None else dataclasses.replace(batch, tokens=seen)),
            model.lm_head[...],
            model.stream_emb[...],
            batch.tokens,
            batch.loss_weights,
            batch.direction,
            config.model.vocabulary,
            len(DIRECTIONS),
            config.loss,
        )

    return loss
