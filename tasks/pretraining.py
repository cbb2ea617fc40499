"""The pre-training tasks of a corpus (docs/reference.md, Pre-training data and Message layout).

The last two are text alone, and not of the release: they teach a small model to read a caption and to write one to a
request, which a large one knows from its text model, at a fraction of the tuning dialogues' cost.
"""

from bagpiper_jax.corpora import questions
from bagpiper_jax.manifest import Clip
from bagpiper_jax.outcomes import RecordError
from tasks.preprocessors import Author, NotApplicable, Variants
from tasks.simulated import annotated, requests, simulated


def caption_to_audio(clip: Clip, rng) -> list:
    """User says the caption, assistant the audio."""
    _require_direction(clip, "caption_to_audio")
    return [["user", "text", caption(clip)], ["assistant", "audio", clip.id]]


def audio_to_caption(clip: Clip, rng) -> list:
    """User plays the audio, assistant says the caption."""
    _require_direction(clip, "audio_to_caption")
    return [["user", "audio", clip.id], ["assistant", "text", caption(clip)]]


def text_only(clip: Clip, rng) -> list:
    """Assistant says a document: the clip's own, else its caption."""
    _require_direction(clip, "text_only")
    text = clip.caption if clip.text is None else clip.text
    if text is None:
        raise NotApplicable("no_text")
    return [["assistant", "text", text]]


def caption_to_answer(clip: Clip, rng) -> Variants:
    """User asks and says the caption, assistant reasons and answers; a variant for each question."""
    return Variants(*simulated(questions.reading_dialogues, annotated(clip), rng))


def request_to_caption(clip: Clip, rng) -> Variants:
    """User requests, assistant reasons and says the caption; variants in several wordings."""
    return requests(questions.planning_dialogue, clip, rng)


def of_domain(clip: Clip, rng, author: Author, domain: str) -> list:
    """What the author makes of clips of one domain (docs/reference.md, Pre-training data has a set for each)."""
    if clip.domain != domain:
        raise NotApplicable("other_domain")
    return author(clip, rng)


def caption(clip: Clip) -> str:
    """The caption of a clip with audio. Raises NotApplicable, or RecordError for a blank one."""
    if clip.audio is None:
        raise NotApplicable("no_audio")
    if clip.caption is None:
        raise NotApplicable("no_caption")
    if not clip.caption.strip():
        raise RecordError("empty_caption", f"the caption of {clip.id} is blank; write one or remove the clip")
    return clip.caption


def _require_direction(clip: Clip, direction: str) -> None:
    if clip.directions is not None and direction not in clip.directions:
        raise NotApplicable("other_direction")
