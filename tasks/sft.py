"""Caption-guided supervised tuning: understanding and generation (docs/reference.md, Tuning dialogues)."""

from bagpiper_jax.corpora import questions
from bagpiper_jax.manifest import Clip
from tasks import settings
from tasks.preprocessors import NotApplicable, Variants
from tasks.simulated import annotated, requests, simulated


def understanding(clip: Clip, rng) -> list | Variants:
    """User plays audio and asks; assistant captions, reasons, answers. A variant for each question."""
    own = _own_dialogue(clip, generates=False)
    return own or Variants(*simulated(questions.understanding_dialogues, annotated(clip), rng))


def generation(clip: Clip, rng) -> list | Variants:
    """User requests; assistant reasons, captions and sounds. Variants in several wordings."""
    own = _own_dialogue(clip, generates=True)
    prompt = settings.current().system_prompt
    return own or requests(questions.generation_dialogue, clip, rng, prompt)


def _own_dialogue(clip: Clip, generates: bool) -> list | None:
    """A dialogue that came with the clip, used as it is; it belongs to one of the two tasks."""
    if clip.dialogue is None:
        return None
    speaks = any(tuple(message[:2]) == ("assistant", "audio") for message in clip.dialogue)
    if speaks != generates:
        raise NotApplicable("dialogue_of_other_direction")
    return clip.dialogue
