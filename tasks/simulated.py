"""Dialogues that annotations are turned into, with the reasons why a clip has none."""

from collections.abc import Callable

from bagpiper_jax.captions import AnnotationError
from bagpiper_jax.corpora import questions
from bagpiper_jax.manifest import Clip
from bagpiper_jax.outcomes import RecordError
from tasks.preprocessors import NotApplicable, Variants

_WORDINGS = 2
"""Requests of one style, each in words drawn anew."""


def annotated(clip: Clip) -> Clip:
    """The clip. Raises NotApplicable: it has no audio or no annotation."""
    if clip.audio is None:
        raise NotApplicable("no_audio")
    if clip.annotation is None:
        raise NotApplicable("no_annotation")
    return clip


def simulated(make: Callable, clip: Clip, *arguments, **settings) -> list:
    """What `make` makes of a clip. Raises NotApplicable: nothing to ask; RecordError: a faulty annotation."""
    try:
        return make(clip, *arguments, **settings)
    except questions.QuestionError as error:
        raise NotApplicable("nothing_to_ask") from error
    except AnnotationError as error:
        raise RecordError("bad_annotation", str(error)) from error


def requests(make: Callable, clip: Clip, *arguments) -> Variants:
    """Dialogues of an annotated clip that begin with a request, in every style and several wordings."""
    annotated(clip)
    return Variants(
        *(
            simulated(make, clip, *arguments, style=style)
            for style in questions.REQUEST_STYLES
            for _ in range(_WORDINGS)
        )
    )
