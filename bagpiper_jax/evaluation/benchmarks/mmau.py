"""MMAU: multiple-choice questions about sounds, music and speech.

Files, as Sakshi113/MMAU has them: `mmau-test-mini.json` (1,000 records) beside `test-mini-audios/`, or `mmau-test.json`
(9,000, whose answers are not published) beside its audio.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks import choice_questions as questions
from bagpiper_jax.evaluation.benchmarks.protocol import Item, Judged, Reply, Score, Tools, Verdict
from bagpiper_jax.evaluation.benchmarks.records import Record, located, read_records, unique_by, write_records
from bagpiper_jax.evaluation.benchmarks.replies import recorded_replies

_FILE = "mmau-test-mini.json"
_ROWS = {"task": ("sound", "music", "speech"), "difficulty": ("easy", "hard", "medium"), "sub-category": ()}
_KEY = "model_output"
_REVISION = "9f18fda99f8dbc2bc5ecd6323fb5063309f54969810b5c6f1caeb3b8d904cf1c"
"""The sha256 of the test-mini file that `version` names."""


class Mmau:
    """The benchmark `mmau`. Its files are a folder with `mmau-test-mini.json`, or the JSON file itself."""

    name, version, failed = "mmau", "v05.15.25", 0.0
    overlaps = ("mmau_train_v1", "audioset", "musicbench", "musiccaps", "clotho", "fma", "mtg-jamendo")

    def __init__(self, files: Path, tools: Tools):
        self._file = located(files, _FILE)

    def items(self) -> Iterable[Item]:
        for record in unique_by(read_records(self._file), lambda each: each.id):
            yield self._item(record)

    def verdicts(self, item: Item, reply: Reply) -> Mapping[str, Verdict]:
        answer, choices = questions.question_of(item)
        if not answer:
            return questions.hidden(reply, choices)
        return {
            "bare": questions.by_words(reply, answer, choices),
            "parsed": questions.by_option(reply, answer, choices),
            "letters": questions.by_letter(reply, answer, choices),
        }

    def official(self, judged: Sequence[Judged]) -> list[Score]:
        """Accuracies by task, difficulty and sub-category, and in total."""
        *table, total = questions.accuracies(judged, _ROWS)
        if hashlib.sha256(self._file.read_bytes()).hexdigest() == _REVISION:
            return [*table, total]
        note = (
            f"{self._file.name} is not that of {self.version}; revisions differ in a quarter of the questions"
        )
        return [*table, dataclasses.replace(total, note="; ".join(filter(None, (total.note, note))))]

    def recorded(self, path: Path) -> dict[str, Reply]:
        """Replies of a file of predictions, the records with `model_output`. Raises BenchmarkError."""
        return recorded_replies(path, _KEY, lambda each: each.id)

    def write(self, path: Path, judged: Iterable[Judged], reading: str = "parsed") -> None:
        """Writes the file of predictions that the script, and the space for hidden answers, take.

        Args:
            reading: "parsed" submits the choice that a reply means, "bare" the reply as it came.
        """
        lines = ((each, questions.submitted(each, reading)) for each in judged)
        write_records(
            path,
            (dict(each.item.record) | ({} if said is None else {_KEY: said}) for each, said in lines),
        )

    def _item(self, record: Record) -> Item:
        # The prompt of the maintainers (issue 3), who found it best most of the time.
        question, choices = record.text("question"), record.texts("choices", least=2)
        prompt = f"{question}  Select one option from the provided choices.\n{choices}."
        return questions.item_of(record, self._file.parent, "audio_id", _ROWS, prompt)
