"""Caption-guided supervised tuning: understanding and generation (docs/reference.md, Tuning dialogues)."""

from bagpiper_jax.captions import AnnotationError
from bagpiper_jax.corpora import questions
from bagpiper_jax.manifest import Clip
from bagpiper_jax.outcomes import RecordError
from tasks import settings
from tasks.preprocessors import NotApplicable


def understanding(clip: Clip, rng) -> list:
    """User plays audio and asks; assistant captions, reasons, answers."""
    own = _own_dialogue(clip, generates=False)
    return own or _simulated(questions.understanding_dialogue, _annotated(clip), rng)


def generation(clip: Clip, rng) -> list:
    """User requests; assistant reasons, captions and sounds."""
    own = _own_dialogue(clip, generates=True)
    prompt = settings.current().system_prompt
    return own or _simulated(questions.generation_dialogue, _annotated(clip), rng, prompt)


def _simulated(make, clip: Clip, *arguments) -> list:
    try:
        return make(clip, *arguments)
    except questions.QuestionError as error:
        raise NotApplicable("nothing_to_ask") from error
    except AnnotationError as error:
        raise RecordError("bad_annotation", str(error)) from error


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
