"""Synthetic speech, judged by a recogniser and, where there is a voice to be like, by a network that knows voices."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from bagpiper_jax.evaluation.benchmarks.generated import sounds
from bagpiper_jax.evaluation.benchmarks.generated.lines import Line, rule_of
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Item, Judged, Reply, Score, Tools, Verdict
from bagpiper_jax.evaluation.metrics.words.spoken_text import average, spoken_errors
from bagpiper_jax.evaluation.metrics.words.word_errors import WordErrors, total_rate


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
        """The word error rate, named after the recogniser: `whisper`, or of Chinese `paraformer` if it is here."""
        recogniser = self._recogniser(item.record["language"])
        with sounds.audible(reply) as path:
            heard = recogniser.transcribe(path, item.record["language"])
        return {f"wer_{recogniser.name}": Verdict(_errors(item, heard).rate, heard)}

    def _recogniser(self, language: str) -> Any:
        """Raises MissingEvaluatorError."""
        of_chinese = sounds.at_hand(self._tools, "paraformer")[0] if language == "zh" else None
        return of_chinese or self._tools.evaluator("whisper")

    def recorded(self, path: Path) -> Mapping[str, Reply]:
        """The sounds in a folder, `<id>.wav` each. Raises BenchmarkError."""
        return sounds.recorded(path)

    def official(self, judged: Sequence[Judged]) -> list[Score]:
        """Word error rates, then the likeness of voices and opinions, where models for them are here."""
        readings = dict.fromkeys(name for each in judged for name in each.verdicts)
        rates = [score for reading in readings for score in _rates(judged, reading)]
        nothing = Score("wer", None, "%", 0, len(judged), note="nothing was heard")
        return (rates or [nothing]) + self._likeness(judged) + self._opinions(judged)

    def _likeness(self, judged: Sequence[Judged]) -> list[Score]:
        """The mean cosine with the voice to be like, as the official script rounds it."""
        voiced = [each for each in judged if each.item.record["voice"]]
        network, missing = sounds.at_hand(self._tools, *self.voices)
        if not voiced or network is None:
            return [Score("sim", None, "", 0, len(voiced), note=missing)] if voiced else []
        found = sounds.judge(
            voiced, lambda path, item: float(network.voice(path) @ network.voice(Path(item.record["voice"])))
        )
        score = sounds.score(f"sim_{network.name}", found, len(voiced), note="cosine with the prompt's voice")
        return [sounds.rounded(score, 3)]

    def _opinions(self, judged: Sequence[Judged]) -> list[Score]:
        if not self.opinions:
            return []
        network, missing = sounds.at_hand(self._tools, "dnsmos")
        if network is None:
            return [Score(f"dnsmos_{on}", None, "", 0, len(judged), note=missing) for on in self.opinions]
        found = sounds.judge(judged, lambda path, item: network.opinions(path))
        return [
            sounds.score(f"dnsmos_{on}", [each[on] for each in found], len(judged)) for on in self.opinions
        ]


def _errors(item: Item, heard: str) -> WordErrors:
    return spoken_errors(item.record["text"], heard, rule_of(item.record["language"]))


def _rates(judged: Sequence[Judged], reading: str) -> list[Score]:
    """The published mean of rates; beside it all edits over all words, and how many utterances went wrong."""
    heard = [each for each in judged if reading in each.verdicts]
    errors = [_errors(each.item, each.verdicts[reading].answer) for each in heard]
    rates, counts = [each.rate for each in errors], (len(heard), len(judged))
    lost = 100 * sum(rate > 0.5 for rate in rates) / len(rates)
    published = "mean of the utterances' rates; what was not generated is left out"
    return [
        Score(reading, average(rates), "%", *counts, note=published),
        Score(f"{reading}_of_all_words", 100 * total_rate(errors), "%", *counts),
        Score(f"{reading}_above_half", lost, "%", *counts, note="utterances of which over half went wrong"),
    ]
