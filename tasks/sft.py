"""Caption-guided supervised tuning: understanding and generation (reference section 1.4)."""

from bagpiper_jax.manifest import Clip
from tasks import settings
from tasks.preprocessors import NotApplicable


def understanding(clip: Clip, rng) -> list:
    """User plays audio and asks; assistant captions, reasons, answers."""
    own = _own_dialogue(clip, generates=False)
    if own:
        return own
    from bagpiper_jax.corpora import questions

    return questions.understanding_dialogue(_annotated(clip), rng)


def generation(clip: Clip, rng) -> list:
    """User requests; assistant reasons, captions and sounds."""
    own = _own_dialogue(clip, generates=True)
    if own:
        return own
    from bagpiper_jax.corpora import questions

    return questions.generation_dialogue(_annotated(clip), rng, settings.current().system_prompt)


def _own_dialogue(clip: Clip, generates: bool) -> list | None:
    """A dialogue that came with the clip, used as it is; it belongs to one of the two tasks."""
    if clip.dialogue is None:
        return None
    speaks = any(tuple(message[:2]) == ("assistant", "audio") for message in clip.dialogue)
    if speaks != generates:
        raise NotApplicable("dialogue_of_other_direction")
    return clip.dialogue


def _annotated(clip: Clip) -> Clip:
    if clip.audio is None:
        raise NotApplicable("no_audio")
    if clip.annotation is None:
        raise NotApplicable("no_annotation")
    return clip
