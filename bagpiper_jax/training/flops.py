"""FLOPs of a train step, counted from the configuration.

XLA's own count is no use: it counts the body of a layer scan once, and nothing of a Pallas kernel.
"""

import dataclasses

from bagpiper_jax.models.configs import AudioTowerConfig, DecoderConfig
from bagpiper_jax.training.config import TrainConfig

FORWARD, ACTIVATIONS, WEIGHTS = 2, 2, 2
"""FLOPs per weight and slot: of the forward pass, and of the gradients of activations and of weights."""


@dataclasses.dataclass(frozen=True)
class StepFlops:
    """Model FLOPs of one optimizer step over all chips; recomputation is not counted.

    Attributes:
        decoder: the operations of the decoder's matrices, without attention scores.
        attention: those of scores and weighted values, every pair of slots of a row counted as attended.
        tower, head: those of the audio tower, and of the head over all streams.
        recomputed: those that the backward pass does again, with attention as causal kernels do it. Kernels that keep
            no scores compute them once more for their gradient, whatever the remat policy is.
    """

    decoder: float
    attention: float
    tower: float
    head: float
    recomputed: float

    @property
    def full(self) -> float:
        """The convention that counts every pair of slots of a row."""
        return self.decoder + self.attention + self.tower + self.head

    @property
    def causal(self) -> float:
        """The convention that counts half of the pairs. Both ignore that documents are isolated."""
        return self.full - self.attention / 2

    @property
    def executed(self) -> float:
        """What the chips really compute, if the kernel skips what is not causal."""
        return self.causal + self.recomputed


def step_flops(train: TrainConfig) -> StepFlops:
    """FLOPs of one step of a run, all micro-batches together."""
    model, rows, slots = train.model, train.batch.rows, train.batch.slots
    trains = {part: train.partition.trains(part) for part in ("decoder/layers/", "tower/")}
    decoder_cost = FORWARD + ACTIVATIONS + WEIGHTS * trains["decoder/layers/"]
    tower_cost = FORWARD + (ACTIVATIONS + WEIGHTS) * trains["tower/"]
    head_cost = FORWARD + ACTIVATIONS + WEIGHTS * train.partition.trains("lm_head")
    tokens = rows * slots
    scores = 2 * slots * model.decoder.layers * model.decoder.heads * model.decoder.head_width
    decoder = tokens * decoder_weights(model.decoder)
    tower = rows * train.batch.chunks * tower_products(model.tower)
    head = tokens * model.decoder.width * model.vocabulary.size
    # Scores have no weights: their gradient costs two products for each of the forward pass.
    attention = (FORWARD + 2 * ACTIVATIONS) * tokens * scores
    # A layer's last product is not run again: no gradient needs its result, and compilers leave it out.
    again = decoder - tokens * model.decoder.layers * model.decoder.width * model.decoder.ffn_width
    recomputed = (
        FORWARD * again * _RECOMPUTES_PRODUCTS.get(model.decoder.remat, 1)
        + attention / 6 * _RECOMPUTES_SCORES.get(model.decoder.remat, 1)
        + attention / 12 * (model.decoder.attention != "dot_product")
        + FORWARD * tower * trains["tower/"] * _RECOMPUTES_PRODUCTS.get(model.tower.remat, 1)
    )
    return StepFlops(decoder_cost * decoder, attention, tower_cost * tower, head_cost * head, recomputed)


_RECOMPUTES_PRODUCTS = {"none": 0, "dots": 0, "attention": 1, "full": 1}
_RECOMPUTES_SCORES = {"none": 0, "dots": 1, "attention": 0, "full": 1}
"""Whether a remat policy runs the matrix products and the attention of a layer again; others as "full"."""


def decoder_weights(config: DecoderConfig) -> int:
    """Weights of all layers' matrices, each used once per slot."""
    projections = (2 * config.heads + 2 * config.kv_heads) * config.head_width
    return config.layers * config.width * (projections + 3 * config.ffn_width)


def tower_products(config: AudioTowerConfig) -> int:
    """Multiply-adds per chunk: convolutions, projection, layers with attention inside a full window."""
    c, bins = config.conv_channels, config.mel_bins
    convolutions = 9 * c * (50 * bins // 2 + c * 25 * bins // 4 + c * 13 * bins // 8)
    attention = 2 * 13 * config.window_chunks * config.width
    layer = 4 * config.width**2 + 2 * config.width * config.ffn_width + attention
    ends = config.width * (c * bins // 8 + config.width + config.output_width)
    return convolutions + 13 * (config.layers * layer + ends)
