"""How large an engine is, and where its model lies."""

import dataclasses

from bagpiper_jax.models.precision import Precision
from bagpiper_jax.parallel import MeshConfig


@dataclasses.dataclass(frozen=True)
class WeightsConfig:
    """Where a model that generates lies, and in which precision.

    Attributes:
        mesh: devices for each axis, all devices together; None takes the first one. `tensor` divides the work of a step
            with its keys and values, `fsdp` and `replica` the rows; `fsdp` divides the weights as well, and every step
            gathers them.
        dtype: of the matrices. bfloat16 takes half the memory, and gives the same replies wherever the model computes
            in bfloat16, for which a step rounds them in any case. int8 takes half of that again for the decoder's
            layers, with a scale for each output channel, and leaves the other matrices bfloat16; replies differ where
            two ids are nearly as likely.
        base: the checkpoint that an adapter changes, where its own directory names one that is elsewhere by now.
    """

    mesh: MeshConfig | None = None
    dtype: Precision = "float32"
    base: str = ""


@dataclasses.dataclass(frozen=True)
class EngineConfig:
    """Sizes of an engine.

    Attributes:
        rows: dialogues answered at once; the others wait.
        memory: GiB of keys and values on each device; dialogues wait while they are used up. None takes what `rows` of
            `context` slots need, guided ones, but no more than half of what the device has left, so that a second
            engine, or a model that trains, finds room beside it; where the device does not say, 1 GiB, and more if the
            longest dialogue needs it.
        context: slots of the longest dialogue, prompt and replies together.
        page: slots of a page.
        chunk: slots of prompts that are fed in one call, so the longest that others wait for a prompt.
        steps: steps in one call of the device.
    """

    rows: int = 64
    memory: float | None = None
    context: int = 16_384
    page: int = 128
    chunk: int = 512
    steps: int = 8

    def __post_init__(self):
        if min(self.rows, self.context, self.page, self.chunk, self.steps) < 1:
            raise ValueError(f"rows, context, page, chunk and steps must be at least 1: {self}")
        if self.memory is not None and self.memory <= 0:
            raise ValueError(f"memory must be more than 0 GiB: {self}")
