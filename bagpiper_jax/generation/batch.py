"""Many dialogues at once and to the end: the engine without a thread."""

import logging
from collections.abc import Sequence

from bagpiper_jax.dialogue import Rendered
from bagpiper_jax.generation.config import EngineConfig
from bagpiper_jax.generation.engine import EngineCore
from bagpiper_jax.generation.segments import LoopConfig, Segment
from bagpiper_jax.models.bagpiper import Bagpiper

_CONTEXT = 1024
"""Slots that the longest dialogue is given at least, so that few programs are compiled."""
_log = logging.getLogger(__name__)


def generate(
    model: Bagpiper,
    prompts: Sequence[Rendered],
    config: LoopConfig,
    rows: int | None = None,
    seeds: Sequence[int] | None = None,
    begun: Sequence[Sequence[int]] | None = None,
) -> list[tuple[Segment, ...]]:
    """Generates the assistant's messages for every prompt with an engine of its own.

    Args:
        model: the model.
        prompts: rendered prompts (`dialogue.render_prompt`).
        config: sampling and enforced modalities.
        rows: prompts decoded at once; None decodes all together.
        seeds: a seed for each prompt instead of `config.seed`.
        begun: for each prompt the tokenizer ids that its first segment begins with, where that is text; none may
            be given. They count among the segment's steps.

    Returns:
        per prompt its segments in order.
    """
    if not prompts:
        return []
    context = longest(prompts, config)
    core = EngineCore(model, EngineConfig(min(rows or len(prompts), len(prompts)), context=context))
    return answer(core, prompts, config, seeds, begun)


def longest(prompts: Sequence[Rendered], config: LoopConfig) -> int:
    """Slots of the longest dialogue, rounded up to a power of two, so that few programs are compiled."""
    needed, context = max(map(len, prompts)) + config.cache_slots, _CONTEXT
    while context < needed:
        context *= 2
    return context


def answer(
    core: EngineCore,
    prompts: Sequence[Rendered],
    config: LoopConfig,
    seeds: Sequence[int] | None = None,
    begun: Sequence[Sequence[int]] | None = None,
) -> list[tuple[Segment, ...]]:
    """The same with an engine that is there, and idle.

    Whoever finds a row is fed at once: with nobody waiting for the next token, full rows count.

    Raises:
        EngineError: a dialogue does not fit the engine, or cannot be begun so.
        PoisonedError: the model gives what is no number.
    """
    seeds = [config.seed] * len(prompts) if seeds is None else seeds
    begun = [()] * len(prompts) if begun is None else begun
    requests = [
        core.add(prompt, config, *given) for prompt, *given in zip(prompts, seeds, begun, strict=True)
    ]
    try:
        while not core.is_idle:
            moved = False
            while core.feed():
                moved = True
            ran = core.decode()
            if not (moved or ran):
                raise RuntimeError("the engine holds dialogues and none of them can move")
            for request in ran:
                if request.error is not None:
                    raise request.error
            if any(request.ended for request in ran):
                _log.debug("answered %d of %d", sum(r.ended for r in requests), len(requests))
    finally:
        for request in requests:
            core.cancel(request)
    return [tuple(request.segments) for request in requests]
