"""Rich captions: what is known of a clip, its prose in the release's two styles, reading prose back, filters."""

from bagpiper_jax.captions.annotation import (
    Acoustics,
    AnnotationError,
    AudioAnnotation,
    Music,
    SoundEvent,
    Speaker,
    Turn,
)
from bagpiper_jax.captions.filters import CaptionFilter, filter_counts
from bagpiper_jax.captions.parsing import ParsedCaption, parse_caption
from bagpiper_jax.captions.prose import describe

__all__ = [
    "Acoustics",
    "AnnotationError",
    "AudioAnnotation",
    "CaptionFilter",
    "Music",
    "ParsedCaption",
    "SoundEvent",
    "Speaker",
    "Turn",
    "describe",
    "filter_counts",
    "parse_caption",
]
