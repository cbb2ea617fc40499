"""What is heard in every frame, as tags read off a corpus's annotations.

The release starts from encoders that others trained on far more audio. Encoders trained from scratch learn here to
tag frames first, and so bring to the language model what captions speak of.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Bool, Float32

from bagpiper_jax.captions import AudioAnnotation, Music, SoundEvent, Turn
from bagpiper_jax.captions.lexicon import tempo_word
from bagpiper_jax.manifest import Clip

_FEWEST = 20  # events with a tag that is worth learning


def event_tags(event: Turn | SoundEvent | Music, annotation: AudioAnnotation) -> Iterator[str]:
    """Kind, and attributes: level; key, tempo and instruments; voice, language, and what a single word says."""
    if isinstance(event, SoundEvent):
        yield event.label
        if event.level:
            yield f"level: {event.level}"
    elif isinstance(event, Music):
        yield "music"
        yield from event.instruments
        if event.key:
            yield f"key: {event.key}"
        if event.tempo:
            yield f"tempo: {tempo_word(event.tempo)}"
    else:
        yield "speech"
        yield f"language: {event.language}"
        speaker = annotation.speaker(event.speaker)
        yield from (f"voice: {word}" for word in (*speaker.voice, speaker.gender, speaker.age) if word)
        if len(event.text.split()) == 1:
            yield f"word: {event.text}"


class Tags:
    """The frequent tags of some clips, and which of them hold in each frame of a clip.

    Args:
        word_parts: if more than 1, a single word has tags of its equal parts too: a frame that knows where in which
            word it lies tells what to say, one that knows the word alone leaves the order of its sounds to others.
    """

    def __init__(self, clips: Iterable[Clip], word_parts: int = 1):
        self._word_parts = word_parts
        counts = Counter(
            tag
            for clip in clips
            if clip.annotation
            for _, _, tags in _spans(clip, word_parts)
            for tag in tags
        )
        self.names = tuple(sorted(tag for tag, count in counts.items() if count >= _FEWEST))
        self._index = {tag: i for i, tag in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def groups(self) -> dict[str, list[int]]:
        """Tags of one attribute by its name; "kind" are those without."""
        found: dict[str, list[int]] = {}
        for index, tag in enumerate(self.names):
            found.setdefault(tag.partition(":")[0] if ":" in tag else "kind", []).append(index)
        return found

    def of(self, clip: Clip, seconds: Float32[np.ndarray, "N"]) -> Bool[np.ndarray, "N C"]:
        """Which tags hold at which times of an annotated clip."""
        held = np.zeros((len(seconds), len(self)), bool)
        for start, end, tags in _spans(clip, self._word_parts):
            known = [self._index[tag] for tag in tags if tag in self._index]
            held[np.ix_((start <= seconds) & (seconds < end), known)] = True
        return held


def _spans(clip: Clip, word_parts: int) -> Iterator[tuple[float, float, tuple[str, ...]]]:
    """Start, end and tags of the recording itself, of every event, and of the parts of single words."""
    annotation = AudioAnnotation.from_json(clip.annotation)
    recording = (annotation.acoustics.room, annotation.acoustics.noise)
    yield 0.0, annotation.duration, tuple(f"recording: {value}" for value in recording if value)
    for event in annotation.events():
        yield event.start, event.end, tuple(event_tags(event, annotation))
        if isinstance(event, Turn) and word_parts > 1 and len(event.text.split()) == 1:
            edges = np.linspace(event.start, event.end, word_parts + 1)
            for part, (start, end) in enumerate(zip(edges, edges[1:], strict=False), 1):
                yield start, end, (f"part of word: {event.text}, {part} of {word_parts}",)
