"""Lines to be spoken, judged by a recogniser and, where there is a voice to be like, by a voice network."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from bagpiper_jax.audio import AudioError
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError, MissingEvaluatorError
from bagpiper_jax.evaluation.benchmarks.generated import sounds
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Item, Judged, Reply, Score, Tools, Verdict
from bagpiper_jax.evaluation.metrics.spoken_text import average, spoken_errors, spoken_words
from bagpiper_jax.evaluation.metrics.word_errors import total_rate

_BY_CHARACTER = ("zh", "ja", "ko")
_MOST_NAMED = 5


@dataclasses.dataclass(frozen=True)
class Line:
    """A line to be spoken.

    Attributes:
        id: also the name of its sound.
        text: what is to be said. language: as "en".
        voice: a recording of the voice that should say it, or None.
    """

    id: str
    text: str
    language: str
    voice: Path | None = None


def unbroken(path: Path, lines: Sequence[Line], faults: list[str]) -> Sequence[Line]:
    """The lines of a file. Raises BenchmarkError: some are broken, have no words, or have the id of another."""
    seen: set[str] = set()
    for line in lines:
        if not spoken_words(line.text, by(line.language)):
            faults.append(f"{line.id} has no words")
        if line.id in seen:
            faults.append(f"{line.id} is there twice")
        seen.add(line.id)
    if faults or not lines:
        more = [f"and {len(faults) - _MOST_NAMED} more"] if len(faults) > _MOST_NAMED else []
        said = "; ".join(faults[:_MOST_NAMED] + more) or "it has no lines"
        raise BenchmarkError(f"{path}: {said}; mend the file")
    return lines


def by(language: str) -> str:
    """What the rule of seed-tts-eval takes for a language: Japanese and Korean are compared as Chinese is."""
    return "zh" if language in _BY_CHARACTER else "en"


class Spoken:
    """What benchmarks of synthetic speech share; a class below it reads the files.

    The rate of one utterance is the edits over the words that should be said, as in seed-tts-eval: no numbers are
    written out, and nothing is cut at 1. The official score leaves out what was not generated.
    """

    failed, unit = 1.0, "edits per word"
    overlaps: ClassVar[tuple[str, ...]] = ()
    voices: ClassVar[tuple[str, ...]]
    """The evaluators that can judge the voice, the published scores' first."""
    opinions: ClassVar[tuple[str, ...]] = ()
    """The opinions of DNSMOS that are told."""

    def __init__(self, lines: Sequence[Line], tools: Tools):
        self._lines, self._tools = lines, tools

    def items(self) -> Iterable[Item]:
        for line in self._lines:
            voice = str(line.voice) if line.voice else ""
            record = {"text": line.text, "language": line.language, "voice": voice}
            yield Item(line.id, Asked(line.text, wants="audio"), record, {"language": line.language})

    def verdicts(self, item: Item, reply: Reply) -> Mapping[str, Verdict]:
        """The word error rate by the recogniser `whisper`, under the name of its model."""
        recogniser = self._tools.evaluator("whisper")
        with sounds.audible(reply) as path:
            heard = recogniser.transcribe(path, item.record["language"])
        errors = spoken_errors(item.record["text"], heard, by(item.record["language"]))
        return {f"wer_{recogniser.name}": Verdict(errors.rate, heard)}

    def recorded(self, path: Path) -> Mapping[str, Reply]:
        """The sounds in a folder, `<id>.wav` each. Raises BenchmarkError."""
        return sounds.recorded(path)

    def official(self, judged: Sequence[Judged]) -> list[Score]:
        readings = dict.fromkeys(name for each in judged for name in each.verdicts)
        found = [score for reading in readings for score in _rates(judged, reading)]
        return found + self._likeness(judged) + [self._opinion(judged, name) for name in self.opinions]

    def _likeness(self, judged: Sequence[Judged]) -> list[Score]:
        """The mean cosine with the voice to be like, as the official script rounds it."""
        pairs = [
            (each.reply.audio, each.item.record["voice"]) for each in judged if each.item.record["voice"]
        ]
        if not pairs:
            return []
        for name in self.voices:
            try:
                network = self._tools.evaluator(name)
                break
            except MissingEvaluatorError as error:
                missing = str(error)
        else:
            return [Score("sim", None, "", 0, len(pairs), note=missing)]
        cosines = list(
            _judged(lambda pair: float(network.voice(pair[0]) @ network.voice(Path(pair[1]))), pairs)
        )
        value = round(statistics.fmean(cosines), 3) if cosines else None
        return [
            Score(
                f"sim_{network.name}",
                value,
                "",
                len(cosines),
                len(pairs),
                note="cosine with the prompt's voice",
            )
        ]

    def _opinion(self, judged: Sequence[Judged], name: str) -> Score:
        try:
            network = self._tools.evaluator("dnsmos")
        except MissingEvaluatorError as error:
            return Score(f"dnsmos_{name}", None, "", 0, len(judged), note=str(error))
        files = [(each.reply.audio,) for each in judged]
        found = list(_judged(lambda pair: network.opinions(pair[0])[name], files))
        return Score(
            f"dnsmos_{name}", statistics.fmean(found) if found else None, "", len(found), len(judged)
        )


def _rates(judged: Sequence[Judged], reading: str) -> list[Score]:
    """The published mean of rates, and beside it what says more: all edits over all words, and how many went wrong."""
    heard = [each for each in judged if reading in each.verdicts]
    errors = [
        spoken_errors(
            each.item.record["text"], each.verdicts[reading].answer, by(each.item.record["language"])
        )
        for each in heard
    ]
    rates, counts = [each.rate for each in errors], (len(heard), len(judged))
    note = "mean of the utterances' rates; what was not generated is left out"
    lost = 100 * sum(rate > 0.5 for rate in rates) / len(rates)
    return [
        Score(reading, average(rates), "%", *counts, note=note),
        Score(f"{reading}_of_all_words", 100 * total_rate(errors), "%", *counts),
        Score(
            f"{reading}_above_half", lost, "%", *counts, note="utterances of which more than half went wrong"
        ),
    ]


def _judged(judge, files: Iterable[tuple]) -> Iterable[float]:
    """What is made of the files that are there and can be read."""
    for each in files:
        if each[0] is not None:
            try:
                yield judge(each)
            except AudioError:
                continue
