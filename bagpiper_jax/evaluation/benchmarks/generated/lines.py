"""Lines that a system should speak, as the benchmarks of synthetic speech list them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.metrics.words.spoken_text import spoken_words

_BY_CHARACTER = ("zh", "ja", "ko")
_MOST_NAMED = 5


@dataclasses.dataclass(frozen=True)
class Line:
    """A line to be spoken.

    Attributes:
        id: also the name of its sound.
        text: what is to be said.
        language: as "en".
        voice: a recording of the voice that should say it, or None.
    """

    id: str
    text: str
    language: str
    voice: Path | None = None


def unbroken(path: Path, lines: Sequence[Line], faults: Sequence[str]) -> Sequence[Line]:
    """The lines of a file. Raises BenchmarkError: some are broken, have no words, or have the id of another."""
    found, seen = [*faults], set()
    for line in lines:
        if not spoken_words(line.text, rule_of(line.language)):
            found.append(f"{line.id} has no words")
        if line.id in seen:
            found.append(f"{line.id} is there twice")
        seen.add(line.id)
    if found or not lines:
        more = [f"and {len(found) - _MOST_NAMED} more"] if len(found) > _MOST_NAMED else []
        said = "; ".join(found[:_MOST_NAMED] + more) or "it has no lines"
        raise BenchmarkError(f"{path}: {said}; mend the file")
    return lines


def rule_of(language: str) -> str:
    """The rule of seed-tts-eval for a language: Japanese and Korean are compared by characters, as Chinese is."""
    return "zh" if language in _BY_CHARACTER else "en"
