"""AIR-Bench Foundation: single-choice questions of 19 tasks about speech, sound and music.

Files, as OFA-Sys/AIR-Bench has them: `Foundation/Foundation_meta.json`, and audio in `Foundation/<task>_<dataset>/`.
Tasks keep their official names, misspellings included.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks import choice_questions as questions
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Item, Judged, Reply, Score, Tools, Verdict
from bagpiper_jax.evaluation.benchmarks.records import Record, located, read_records, unique_by, write_records
from bagpiper_jax.evaluation.benchmarks.replies import ROOM, recorded_replies
from bagpiper_jax.evaluation.metrics.letters import air_bench_letter

_META = "Foundation_meta.json"
_LETTERS = "ABCD"
_PROMPT = (
    "Choose the most suitable answer from options A, B, C, and D to respond the question in next line, "
    "you may only choose A or B or C or D."
)


class AirBenchFoundation:
    """The benchmark `air_bench_foundation`. Its files are the folder with `Foundation/`, or the meta file itself."""

    name, version, failed = "air_bench_foundation", "98324766", 0.0
    overlaps = ("airbench_train_v1",)

    def __init__(self, files: Path, tools: Tools):
        self._file = located(files, _META, f"Foundation/{_META}")

    def items(self) -> Iterable[Item]:
        for record in unique_by(read_records(self._file), item_id):
            yield self._item(record)

    def verdicts(self, item: Item, reply: Reply) -> Mapping[str, Verdict]:
        choices, answer = item.record["choices"], item.record["answer_gt"]
        letter = air_bench_letter(reply.text)
        if letter is None:
            bare = Verdict(None, reason="no_letter")
        elif answer not in choices:
            bare = Verdict(None, letter, _NO_GOLD)
        else:
            bare = Verdict(float(letter == _LETTERS[choices.index(answer)]), letter)
        return {"bare": bare, "parsed": questions.by_option(reply, answer, choices)}

    def official(self, judged: Sequence[Judged]) -> list[Score]:
        """Shares by task and data set, unrounded, as printed; then by task, and the mean of tasks, which are ours."""
        seen = [each for each in judged if "task" in each.item.groups and not each.reply.fault]
        if stops := [each for each in seen if _bare(each).reason == _NO_GOLD]:
            note = f"the official script ends at item {stops[0].item.id}: its right answer is none of its choices"
            return [Score("accuracy", None, "", 0, len(judged), reading="bare", note=note)]
        read = [each for each in seen if _bare(each).value is not None]
        tasks = _shares("task", judged, read)
        known = [score.value for score in tasks if score.value is not None]
        macro = sum(known) / len(known) if known and len(known) == len(tasks) else None
        ours = "the mean over tasks; the official script prints no average"
        return [
            *_shares("dataset", judged, read),
            Score("total_sum", len(read), "items", len(read), len(judged), reading="bare"),
            Score("fail_num", len(seen) - len(read), "items", len(read), len(judged), reading="bare"),
            *tasks,
            Score("macro_over_tasks", macro, "", len(read), len(judged), reading="bare", note=ours),
        ]

    def recorded(self, path: Path) -> dict[str, Reply]:
        """Replies of `Foundation_result_modelx.jsonl`, the records with `response`. Raises BenchmarkError."""
        return recorded_replies(path, "response", item_id)

    def write(self, path: Path, judged: Iterable[Judged], reading: str = "bare") -> None:
        """Writes `Foundation_result_modelx.jsonl`.

        Args:
            reading: "bare" writes replies as they came, "parsed" the letter of the choice that each means.
        """
        write_records(path, (line for each in judged if (line := self._line(each, reading))))

    def _line(self, judged: Judged, reading: str) -> dict | None:
        fields = {name: value for name, value in judged.item.record.items() if name != "choices"}
        choices, verdict = judged.item.record["choices"], judged.verdicts.get(reading)
        if judged.reply.fault:
            return None
        if reading == "parsed" and verdict and verdict.value is not None:
            return fields | {"response": _LETTERS[choices.index(verdict.answer)]}
        return fields | {"response": judged.reply.text}

    def _item(self, record: Record) -> Item:
        four = [record.text(f"choice_{letter}", "") for letter in _LETTERS.lower()]
        choices = [text for text in four if text]
        if len(choices) < 2 or four[: len(choices)] != choices:
            raise record.fault(f"choices must be two or more, from choice_a on, but are {four}")
        task, dataset, path = record.text("task_name", ""), record.text("dataset_name"), record.text("path")
        record.text("answer_gt")
        lines = [f"{letter}. {text or None}" for letter, text in zip(_LETTERS, four, strict=True)]
        text = "\n".join((_PROMPT, record.text("question"), *lines))
        clip = Path(f"{task}_{dataset}") / path
        if task == "Audio_Grounding":
            clip = clip.with_suffix(".flac")
        return Item(
            item_id(record),
            Asked(text, self._file.parent / clip, max_tokens=ROOM),
            {**record.fields, "choices": choices},
            {"task": task, "dataset": f"{task}_{dataset}"} if task else {},
            cluster=clip.as_posix(),
        )


_NO_GOLD = "answer_not_among_choices"


def item_id(record: Record) -> str:
    """Task, data set and `uniq_id`, of both tracks."""
    parts = record.text("task_name", "none"), record.text("dataset_name"), record.fields.get("uniq_id")
    return "_".join(map(str, parts))


def _bare(judged: Judged) -> Verdict:
    return judged.verdicts.get("bare", Verdict(None, reason="no_letter"))


def _shares(kind: str, judged: Sequence[Judged], read: list[Judged]) -> list[Score]:
    """The share of right letters of each group; letters that were not found are in no denominator."""
    found: dict[str, list[float]] = {}
    for each in read:
        found.setdefault(each.item.groups[kind], []).append(_bare(each).value)
    expected: dict[str, int] = {}
    for each in judged:
        if kind in each.item.groups:
            name = each.item.groups[kind]
            expected[name] = expected.get(name, 0) + 1
    none = "the official script stops here: no reply has a letter"
    return [
        Score(
            "accuracy", sum(values) / len(values) if (values := found.get(name)) else None, "",
            len(values or ()), count, (kind, name), "bare", note="" if values else none,
        )
        for name, count in expected.items()
    ]  # fmt: skip
