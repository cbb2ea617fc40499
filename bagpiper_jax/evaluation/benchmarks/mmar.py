"""MMAR: multiple-choice questions that need reasoning, about speech, sound, music and their mixtures.

Files: `MMAR-meta.jsonl` beside its audio, as ddlBoJack/MMAR has them. Where a judge is named, replies are also rated by
the criteria of MMAR-Rubrics, which ask how the answer was found.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bagpiper_jax.evaluation.benchmarks import choice_questions as questions
from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.benchmarks.judging import REASONING, JudgePrompt
from bagpiper_jax.evaluation.benchmarks.protocol import Item, Judged, Reply, Score, Tools, Verdict
from bagpiper_jax.evaluation.benchmarks.records import Record, located, read_records, unique_by, write_records
from bagpiper_jax.evaluation.benchmarks.replies import recorded_replies
from bagpiper_jax.evaluation.metrics.choices import is_right
from bagpiper_jax.evaluation.metrics.reply_parts import reply_parts
from bagpiper_jax.evaluation.metrics.rubrics import RATERS, middle_mean, rubric_score
from bagpiper_jax.outcomes import RecordError

_MIXTURES = ("mix-sound-music", "mix-sound-speech", "mix-music-speech", "mix-sound-music-speech")
_ROWS = {
    "modality": ("sound", "music", "speech", *_MIXTURES),
    "category": ("Signal Layer", "Perception Layer", "Semantic Layer", "Cultural Layer"),
    "sub-category": (),
}
_KEY, _THOUGHTS = "answer_prediction", "thinking_prediction"
_TRIES = 3


class Mmar:
    """The benchmark `mmar`. Its files are a folder with `MMAR-meta.jsonl`, or the file itself."""

    name, version, failed = "mmar", "3bce090a", 0.0
    overlaps = ()

    def __init__(self, files: Path, tools: Tools):
        self._file, self._tools = located(files, "MMAR-meta.jsonl", "MMAR-meta.json"), tools
        self._prompt = JudgePrompt(self._file.parent, REASONING)

    def items(self) -> Iterable[Item]:
        for record in unique_by(read_records(self._file), lambda each: each.id):
            yield self._item(record)

    def verdicts(self, item: Item, reply: Reply) -> Mapping[str, Verdict]:
        answer, choices = questions.question_of(item)
        found = {
            "bare": questions.by_words(reply, answer, choices),
            "parsed": questions.by_option(reply, answer, choices),
            "letters": questions.by_letter(reply, answer, choices),
        }
        if item.record.get("rubric"):
            try:
                found["rubrics"] = self._rated(item, reply)
            except MissingEvaluatorError:
                pass  # the rubrics are a second score; the first needs no judge
        return found

    def official(self, judged: Sequence[Judged]) -> list[Score]:
        """Accuracies by modality, category and sub-category, and in total; then the mean of the rubrics, if rated."""
        table = questions.accuracies(judged, _ROWS)
        rated = [verdict.value for each in judged if (verdict := each.verdicts.get("rubrics"))]
        if not rated:
            return table
        known = [value for value in rated if value is not None]
        mean = sum(known) / len(known) if known else None
        note = f"{self._prompt.remark}; items that a rater failed on are left out"
        return [*table, Score("rubrics", mean, "", len(known), len(judged), reading="rubrics", note=note)]

    def recorded(self, path: Path) -> dict[str, Reply]:
        """Replies of a file of predictions: `answer_prediction`, with `thinking_prediction` as reasoning before it."""
        replies = recorded_replies(path, _KEY, lambda each: each.id)
        for record in read_records(path):
            thoughts, reply = record.fields.get(_THOUGHTS), replies.get(record.id)
            if isinstance(thoughts, str) and thoughts and reply and not reply.fault:
                replies[record.id] = Reply(f"<think>\n{thoughts}\n</think>\n\n{reply.text}")
        return replies

    def write(self, path: Path, judged: Iterable[Judged], reading: str = "parsed") -> None:
        """Writes the file of predictions that both scripts take; its name ends in `.json` or `.jsonl`."""
        write_records(path, (self._line(each, reading) for each in judged))

    def _line(self, judged: Judged, reading: str) -> dict:
        said = questions.submitted(judged, reading)
        thoughts = reply_parts(judged.reply.text).reasoning
        return dict(judged.item.record) | ({} if said is None else {_KEY: said, _THOUGHTS: thoughts})

    def _rated(self, item: Item, reply: Reply) -> Verdict:
        """The mean of the middle three of five raters; a wrong answer is 0, and nobody is asked."""
        parts, (answer, choices) = reply_parts(reply.text), questions.question_of(item)
        if not is_right(parts.answer, answer, choices):
            return Verdict(0.0, reason="wrong_answer")
        scores = []
        for rater in range(1, RATERS + 1):
            score = self._rating(item, rater, parts.reasoning, parts.answer)
            if score is None:
                return Verdict(None, reason=f"rater_{rater}_failed")
            scores.append(score)
        return Verdict(middle_mean(scores), " ".join(f"{score:g}" for score in scores))

    def _rating(self, item: Item, rater: int, reasoning: str, said: str) -> float | None:
        criteria = item.record["rubric"]
        text = self._prompt.filled(
            question=item.record["question"],
            answer=item.record["answer"],
            thinking=str(item.record.get("thinking", "")),
            cue=json.dumps(item.record.get("cue", []), ensure_ascii=False),
            reasoning=reasoning,
            reply=said,
            rubric=json.dumps(criteria, ensure_ascii=False, indent=1),
        )
        messages = [{"role": "user", "content": text}]
        for attempt in range(1, _TRIES + 1):
            try:
                raw = self._tools.judge(item.id, f"rubrics_{rater}_{attempt}", messages, 0.0, 1024)
                return rubric_score(raw, criteria)
            except RecordError:
                continue
        return None

    def _item(self, record: Record) -> Item:
        # The prompt of the maintainers (issue 3).
        choices = record.texts("choices", least=2)
        lines = (record.text("question"), "Select one option from the provided choices:", *choices)
        item = questions.item_of(record, self._file.parent, "audio_path", _ROWS, "\n".join(lines))
        rubric = record.fields.get("rubric")
        if rubric and not (isinstance(rubric, list) and all(map(_is_criterion, rubric))):
            raise record.fault(
                f"'rubric' must be a list of objects with choices, which are numbers, not {rubric!r:.80}"
            )
        return item


def _is_criterion(value: Any) -> bool:
    choices = value.get("choices") if isinstance(value, dict) else None
    return (
        isinstance(choices, list) and bool(choices) and all(isinstance(each, int | float) for each in choices)
    )
