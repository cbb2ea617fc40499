"""Real scores (music21's corpus) rendered with a Debian soundfont: music whose key, tempo and instruments are exact.

Needs the optional packages `music21` and `symusic`; `available` says whether they are there.
"""

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.audio import SAMPLE_RATE
from bagpiper_jax.corpora.debian.recordings import Recording
from bagpiper_jax.outcomes import RecordError

_PACKAGES = ("music21", "symusic")
SOUNDFONT_LICENCE = "GPL-2"
_TICKS = 480
_LEVEL = 0.1  # root mean square of a rendering, -20 dBFS

TUNES, CHORALES = "ryansMammoth", "bach"
_GENRES = {TUNES: "folk", CHORALES: "baroque"}
_SOLOISTS = {
    "violin": 40, "flute": 73, "clarinet": 71, "oboe": 68, "acoustic guitar": 24, "accordion": 21, "trumpet": 56,
    "piano": 0, "harmonica": 22, "banjo": 105, "harpsichord": 6, "vibraphone": 11, "recorder": 74, "cello": 42,
    "alto saxophone": 65, "bagpipe": 109,
}  # fmt: skip
_ENSEMBLES = (
    (("church organ", 19),),
    (("string ensemble", 48),),
    (("choir", 52),),
    (("harpsichord", 6),),
    (("brass section", 61),),
    (("flute", 73), ("oboe", 68), ("clarinet", 71), ("bassoon", 70)),
    (("violin", 40), ("violin", 40), ("viola", 41), ("cello", 42)),
    (("trumpet", 56), ("trumpet", 56), ("trombone", 57), ("tuba", 58)),
    (("guitar", 24), ("guitar", 24), ("guitar", 24), ("cello", 42)),
)


@dataclasses.dataclass(frozen=True)
class Rendering:
    """A passage and the truth about it: beats per minute, key or None, instruments, genre."""

    samples: Float32[np.ndarray, "n"]
    tempo: float
    key: str | None
    instruments: tuple[str, ...]
    genre: str


def available() -> str:
    """What hinders rendering, or ""."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} not installed; pip install 'bagpiper_jax[debian]'" if missing else ""


def versions() -> dict[str, str]:
    """Versions of the optional packages that are there."""
    found = [name for name in _PACKAGES if importlib.util.find_spec(name)]
    return {name: importlib.metadata.version(name) for name in found}


def scores(count: int, seconds: float, seed: int) -> Iterator[Recording]:
    """`count` works, three tunes to each chorale, chosen by seed."""
    from music21 import corpus

    root = Path(corpus.__file__).parent
    tunes = sorted((root / TUNES).glob("*.abc"))
    chorales = sorted((root / CHORALES).glob("bwv*.mxl"))
    generator = np.random.default_rng(seed)
    for paths, number in ((tunes, count - count // 4), (chorales, count // 4)):
        for index in sorted(generator.choice(len(paths), min(number, len(paths)), replace=False)):
            path = paths[index]
            collection = path.parent.name
            name = "".join(c if c.isalnum() else "-" for c in path.stem)
            yield Recording(
                f"{collection}-{name}", "score", str(path), _GENRES[collection], f"{collection}/{path.stem}",
                f"music21/{collection}", f"music21/{collection}", SOUNDFONT_LICENCE, seconds=seconds,
            )  # fmt: skip


def render(recording: Recording, soundfont: str, seed: int) -> Rendering:
    """Renders a passage with instruments, tempo and place chosen by the seed and the score's name.

    Raises:
        RecordError: `bad_score`, music21 cannot read it or it has no notes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # music21 tells of every oddity of old encodings
        score = _parse(recording.path)
        parts = [_notes(part) for part in (score.parts or [score])]
    parts = [part for part in parts if part]
    if not parts:
        raise RecordError("bad_score", f"{recording.path} has no notes", "none; the score is left out")
    choice = _generator(recording.group, seed)
    collection = recording.group.split("/")[0]
    span, beat = _metre(score, collection)
    tempo = float(choice.integers(*span))
    programs = _instruments(collection, len(parts), choice)
    passage = _passage(parts, recording.seconds * tempo / 60, choice)
    samples = _synthesize(passage, programs, tempo, soundfont)[: round(recording.seconds * SAMPLE_RATE)]
    names = tuple(dict.fromkeys(name for name, _ in programs))
    return Rendering(samples, round(tempo / beat), _key(score), names, recording.label)


def _generator(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng(
        int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big")
    )


def _parse(path: str):
    from music21 import converter

    try:
        parsed = converter.parse(path, forceSource=True)
        return parsed.scores[0] if type(parsed).__name__ == "Opus" else parsed
    except Exception as error:  # music21 raises a zoo of its own and of plain errors
        raise RecordError("bad_score", f"{path}: {error}", "none; the score is left out") from error


def _notes(part) -> list[tuple[float, float, int]]:
    """(onset in quarters, length in quarters, MIDI pitch), tied notes joined, grace notes left out."""
    stream = part.stripTies().flatten()
    return [
        (float(note.offset), float(note.quarterLength), int(pitch.midi))
        for note in stream.notes
        if note.quarterLength > 0
        for pitch in note.pitches
    ]


def _metre(score, collection: str) -> tuple[tuple[int, int], float]:
    """A span of quarters per minute that suits the metre, and the quarters of a beat."""
    if collection == CHORALES:
        return (66, 100), 1.0
    signatures = list(score.recurse().getElementsByClass("TimeSignature"))
    ratio = signatures[0].ratioString if signatures else "4/4"
    if ratio in ("6/8", "9/8", "12/8"):  # a jig's beat is a dotted quarter
        return (126, 180), 1.5
    return ((60, 100) if ratio == "2/4" else (110, 190)), 1.0  # in 2/4 these tunes are written in sixteenths


def _instruments(collection: str, parts: int, choice: np.random.Generator) -> list[tuple[str, int]]:
    """A (name, General MIDI program) for each part."""
    if collection == TUNES:
        name = list(_SOLOISTS)[choice.integers(len(_SOLOISTS))]
        return [(name, _SOLOISTS[name])] * parts
    ensemble = _ENSEMBLES[choice.integers(len(_ENSEMBLES))]
    return [ensemble[min(index, len(ensemble) - 1)] for index in range(parts)]


def _passage(parts: Sequence[list], quarters: float, choice: np.random.Generator) -> list[list]:
    """The notes from a random onset on, moved to zero, as many as fit in that many quarters."""
    end = max(onset + length for part in parts for onset, length, _ in part)
    onsets = sorted({onset for onset, _, _ in parts[0] if onset <= max(0.0, end - quarters)})
    start = onsets[choice.integers(len(onsets))] if onsets else 0.0
    return [
        [(onset - start, length, pitch) for onset, length, pitch in part if start <= onset < start + quarters]
        for part in parts
    ]


def _synthesize(parts: Sequence[list], programs, tempo: float, soundfont: str) -> np.ndarray:
    import symusic

    score = symusic.Score(_TICKS)
    score.tempos.append(symusic.Tempo(0, tempo))
    for notes, (_, program) in zip(parts, programs, strict=True):
        track = symusic.Track(program=program)
        for onset, length, pitch in notes:
            track.notes.append(symusic.Note(round(onset * _TICKS), max(1, round(length * _TICKS)), pitch, 90))
        score.tracks.append(track)
    stereo = symusic.Synthesizer(soundfont, SAMPLE_RATE).render(score, stereo=True)
    samples = np.asarray(stereo, np.float32).mean(axis=0)
    scale = _LEVEL / max(float(np.sqrt(np.mean(samples**2))), 1e-6)
    return samples * min(scale, 0.99 / max(float(np.abs(samples).max()), 1e-6))


def _key(score) -> str | None:
    """The key, from the signature and the last bass note; None where the two do not agree on a major or minor.

    Modal tunes, and works that end elsewhere, stay unnamed rather than guessed.
    """
    from music21 import key

    signatures = list(score.recurse().getElementsByClass(key.KeySignature))
    if not signatures or len({signature.sharps for signature in signatures}) > 1:
        return None
    parts = list(score.parts) or [score]
    last = [element for element in parts[-1].flatten().notes if element.quarterLength > 0]
    if not last:
        return None
    final = last[-1].pitches[0].pitchClass
    for mode in ("major", "minor"):
        tonic = key.KeySignature(signatures[0].sharps).asKey(mode).tonic
        if tonic.pitchClass == final:
            return f"{tonic.name.replace('-', ' flat').replace('#', ' sharp')} {mode}"
    return None
