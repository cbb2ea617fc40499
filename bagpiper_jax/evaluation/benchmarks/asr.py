"""Speech recognition: word error rates on LibriSpeech, Kaldi's data folders and our manifests (`speech_sets.py`)."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Item, Judged, Reply, Score, Tools, Verdict
from bagpiper_jax.evaluation.benchmarks.records import write_records
from bagpiper_jax.evaluation.benchmarks.replies import ROOM, recorded_replies
from bagpiper_jax.evaluation.benchmarks.speech_sets import Utterance, read_speech
from bagpiper_jax.evaluation.metrics.reply_parts import reply_parts
from bagpiper_jax.evaluation.metrics.words.transcripts import NORMALIZERS
from bagpiper_jax.evaluation.metrics.words.word_errors import WordErrors, mean_rate, total_rate, word_errors

_PROMPT = "Transcribe the speech in this recording. Answer with the words alone."
_READINGS = {"bare": "qwen2_audio", "parsed": "qwen2_audio", "audiobench": "audiobench", "plain": "plain"}
"""Reading → the rule that makes both sides alike; "bare" has caption and reasoning among the words."""

_KEY = "response"


class Asr:
    """The benchmark `asr`. Its files are a set of recordings with transcripts, or a folder of such sets.

    Values are word error rates as shares, and may be above 1; a recording without a reply has all its words missing.
    """

    name, version, failed, unit = "asr", "1", 1.0, "edits per word"
    overlaps = ("librispeech",)

    def __init__(self, files: Path, tools: Tools):
        self._files = files
        if next(read_speech(files), None) is None:
            raise BenchmarkError(f"{files} holds recordings, but no transcripts; name a set that has them")

    def items(self) -> Iterable[Item]:
        seen: set[str] = set()
        for utterance in read_speech(self._files):
            item = _item(utterance)
            if item.id in seen:
                raise BenchmarkError(f"{self._files}: two utterances are {item.id!r}; give each its own id")
            seen.add(item.id)
            yield item

    def verdicts(self, item: Item, reply: Reply) -> Mapping[str, Verdict]:
        said, language = reply_parts(reply.text).answer, item.record["language"]
        found = {}
        for reading, rule in _READINGS.items():
            words = NORMALIZERS[rule](reply.text if reading == "bare" else said, language)
            found[reading] = _verdict(NORMALIZERS[rule](item.record["text"], language), words)
        return found

    def official(self, judged: Sequence[Judged]) -> list[Score]:
        """Of each set, all edits over all words, and the mean of the utterances' rates; in percent.

        `wer_with_missing` counts the words of recordings without a reply as missing, where `wer` leaves them out.
        """
        return [
            score
            for name in dict.fromkeys(each.item.groups["set"] for each in judged)
            for reading in _READINGS
            for score in _scores([each for each in judged if each.item.groups["set"] == name], name, reading)
        ]

    def recorded(self, path: Path) -> dict[str, Reply]:
        """Replies of a `.json` or `.jsonl` file of records with `id` and `response`. Raises BenchmarkError."""
        return recorded_replies(path, _KEY, lambda each: each.id)

    def write(self, path: Path, judged: Iterable[Judged]) -> None:
        """Writes records of id, transcript and the answers of the replies."""
        given = (each for each in judged if not each.reply.fault)
        lines = ((each.item, reply_parts(each.reply.text).answer) for each in given)
        write_records(path, ({"id": item.id, **item.record, _KEY: answer} for item, answer in lines))


def _item(utterance: Utterance) -> Item:
    return Item(
        f"{utterance.set}_{utterance.id}",
        Asked(_PROMPT, utterance.audio, max_tokens=ROOM),
        {"text": utterance.text, "language": utterance.language},
        {"set": utterance.set},
        cluster=f"{utterance.set}_{utterance.speaker}" if utterance.speaker else "",
    )


def _verdict(reference: list[str], words: list[str]) -> Verdict:
    if not reference:
        return Verdict(None, " ".join(words), "empty_reference")
    return Verdict(word_errors(reference, words).rate, " ".join(words))


def _scores(of_set: Sequence[Judged], name: str, reading: str) -> list[Score]:
    heard = [_errors(each, reading) for each in of_set if reading in each.verdicts]
    missing = [_errors(each, reading) for each in of_set if reading not in each.verdicts]
    rates = {"wer": total_rate(heard), "mean_utterance_wer": mean_rate(heard)}
    if missing:
        rates["wer_with_missing"] = total_rate([*heard, *missing])
    return [
        Score(
            metric, None if rate is None else 100 * rate, "%",
            len(of_set if metric == "wer_with_missing" else heard), len(of_set), ("set", name), reading,
            note=f"words as {_READINGS[reading]} divides them",
        )
        for metric, rate in rates.items()
    ]  # fmt: skip


def _errors(judged: Judged, reading: str) -> WordErrors:
    rule, record = NORMALIZERS[_READINGS[reading]], judged.item.record
    verdict = judged.verdicts.get(reading)
    words = verdict.answer.split(" ") if verdict and verdict.answer else rule("", record["language"])
    return word_errors(rule(record["text"], record["language"]), words)
