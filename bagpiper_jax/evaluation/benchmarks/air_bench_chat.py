"""AIR-Bench Chat: open questions of eight tasks, whose answers a judge compares with a reference, in both orders.

Files, as OFA-Sys/AIR-Bench has them: `Chat/Chat_meta.json`, and audio in `Chat/<task>_<dataset>/`. The judge of the
published numbers is retired, so they can be approached only; the lines of every judge are kept in the verdicts.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks.air_bench_foundation import item_id
from bagpiper_jax.evaluation.benchmarks.judging import COMPARISON, JudgePrompt
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Item, Judged, Reply, Score, Tools, Verdict
from bagpiper_jax.evaluation.benchmarks.records import Record, located, read_records, unique_by, write_records
from bagpiper_jax.evaluation.benchmarks.replies import ROOM, is_given, recorded_replies
from bagpiper_jax.evaluation.metrics.chat_scores import (
    CATEGORIES,
    ChatScores,
    chat_scores,
    final_scores,
    points,
)
from bagpiper_jax.evaluation.metrics.reply_parts import reply_parts

_META = "Chat_meta.json"
_ORDERS = {"reference_first": False, "model_first": True}
"""Reading → whether the model is assistant 1."""


class AirBenchChat:
    """The benchmark `air_bench_chat`. Its files are the folder with `Chat/`, or the meta file itself.

    A question without verdict has 0 points, as lmms-eval counts it; the official script leaves it out.
    """

    name, version, failed, unit = "air_bench_chat", "98324766", 0.0, "points"
    overlaps = ("airbench_train_v1",)

    def __init__(self, files: Path, tools: Tools):
        self._file, self._tools = located(files, _META, f"Chat/{_META}"), tools
        self._prompt = JudgePrompt(self._file.parent, COMPARISON)

    def items(self) -> Iterable[Item]:
        for record in unique_by(read_records(self._file), item_id):
            yield self._item(record)

    def verdicts(self, item: Item, reply: Reply) -> Mapping[str, Verdict]:
        """The model's points from 1 to 10 in either order, and their mean; the judge's line is in `answer`."""
        said = reply_parts(reply.text).answer
        found = {reading: self._judged(item, said, reading) for reading in _ORDERS}
        values = [verdict.value for verdict in found.values()]
        both = Verdict(None, reason="no_points") if None in values else Verdict(sum(values) / len(values))
        return found | {"both": both}

    def official(self, judged: Sequence[Judged]) -> list[Score]:
        """What the script prints of either order, and the published rows, which the README computes from both."""
        tables = {
            reading: chat_scores(_lines(judged, reading), swapped) for reading, swapped in _ORDERS.items()
        }
        expected = {name: sum(_category(each) == name for each in judged) for name in CATEGORIES.values()}
        printed = [
            score
            for reading, table in tables.items()
            for score in _printed(table, reading, expected, len(judged))
        ]
        scored = sum(each.verdicts.get("both", _NONE).value is not None for each in judged)
        final = final_scores(*tables.values())
        return printed + [
            Score(
                "score",
                value,
                "points",
                scored,
                len(judged),
                ("category", name),
                "both",
                note=self._prompt.remark,
            )
            for name, value in final.items()
        ]

    def recorded(self, path: Path) -> dict[str, Reply]:
        """Replies of `Chat_result_modelx.jsonl`, the records with `response`. Raises BenchmarkError."""
        return recorded_replies(
            path, ((item_id(record), record) for record in read_records(path)), "response"
        )

    def write(self, path: Path, judged: Iterable[Judged]) -> None:
        """Writes `Chat_result_modelx.jsonl` with the answers of the replies, without caption and reasoning."""
        replies = ((each.item.record, each.reply) for each in judged)
        write_records(
            path,
            (
                {**record, "response": reply_parts(reply.text).answer}
                for record, reply in replies
                if is_given(reply)
            ),
        )

    def _judged(self, item: Item, said: str, reading: str) -> Verdict:
        model_first = _ORDERS[reading]
        reference = item.record["answer_gt"]
        first, second = (said, reference) if model_first else (reference, said)
        text = self._prompt.filled(
            audio=item.record["meta_info"], question=item.record["question"], first=first, second=second
        )
        line = self._tools.judge(item.id, reading, [{"role": "user", "content": text}], 0.0, 1024)
        found = points(line)
        return (
            Verdict(float(found[0 if model_first else 1]), line)
            if found
            else Verdict(None, line, "no_points")
        )

    def _item(self, record: Record) -> Item:
        for name in ("meta_info", "answer_gt"):
            record.text(name)
        task, dataset, path = record.text("task_name", ""), record.text("dataset_name"), record.text("path")
        clip = f"{task}_{dataset}/{path}"
        groups = {"task": task, "category": CATEGORIES[task]} if task in CATEGORIES else {}
        return Item(
            item_id(record),
            Asked(record.text("question"), self._file.parent / clip, max_tokens=ROOM),
            record.fields,
            groups,
            cluster=clip,
        )


_NONE = Verdict(None)


def _category(judged: Judged) -> str:
    return judged.item.groups.get("category", "")


def _lines(judged: Sequence[Judged], reading: str) -> list[tuple[str | None, str]]:
    return [
        (each.item.record.get("task_name"), each.verdicts[reading].answer)
        for each in judged
        if reading in each.verdicts
    ]


def _printed(table: ChatScores, reading: str, expected: Mapping[str, int], total: int) -> Iterable[Score]:
    for name, category in table.categories.items():
        for metric in ("win_rate", "gpt4_avg_score", "llm_avg_score"):
            value = getattr(category, metric)
            note = "" if value is not None else "the official script divides by zero here"
            unit = "" if metric == "win_rate" else "points"
            yield Score(
                metric, value, unit, category.sum, expected[name], ("category", name), reading, note=note
            )
    for metric in ("fail_num", "success_num"):
        yield Score(metric, getattr(table, metric), "lines", table.success_num, total, reading=reading)
    yield Score("percentage", table.percentage, "", table.success_num, total, reading=reading)
