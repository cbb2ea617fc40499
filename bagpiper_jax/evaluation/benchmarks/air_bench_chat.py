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
from bagpiper_jax.evaluation.benchmarks.replies import ROOM, recorded_replies
from bagpiper_jax.evaluation.metrics.chat_scores import (
    CATEGORIES,
    MIXED,
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
        tables = {name: chat_scores(_lines(judged, name), swapped) for name, swapped in _ORDERS.items()}
        printed = [score for name, table in tables.items() for score in _printed(table, name, judged)]
        return [*printed, *_published(final_scores(*tables.values()), judged, self._prompt.remark)]

    def recorded(self, path: Path) -> dict[str, Reply]:
        """Replies of `Chat_result_modelx.jsonl`, the records with `response`. Raises BenchmarkError."""
        return recorded_replies(path, "response", item_id)

    def write(self, path: Path, judged: Iterable[Judged]) -> None:
        """Writes `Chat_result_modelx.jsonl` with the answers of the replies, without caption and reasoning."""
        given = (each for each in judged if not each.reply.fault)
        answers = ((each.item.record, reply_parts(each.reply.text).answer) for each in given)
        write_records(path, ({**record, "response": answer} for record, answer in answers))

    def _judged(self, item: Item, said: str, reading: str) -> Verdict:
        model_first = _ORDERS[reading]
        reference = item.record["answer_gt"]
        first, second = (said, reference) if model_first else (reference, said)
        text = self._prompt.filled(
            audio=item.record["meta_info"], question=item.record["question"], first=first, second=second
        )
        line = self._tools.judge(item.id, reading, [{"role": "user", "content": text}], 0.0, 1024)
        if (found := points(line)) is None:
            return Verdict(None, line, "no_points")
        return Verdict(float(found[0 if model_first else 1]), line)

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


def _lines(judged: Sequence[Judged], order: str) -> list[tuple[str | None, str]]:
    """The task and the judge's line of each question that was judged."""
    found = ((each.item.record.get("task_name"), each.verdicts.get(order)) for each in judged)
    return [(task, verdict.answer) for task, verdict in found if verdict]


def _printed(table: ChatScores, order: str, judged: Sequence[Judged]) -> Iterable[Score]:
    units = {"win_rate": "", "gpt4_avg_score": "points", "llm_avg_score": "points"}
    for name, row in table.categories.items():
        expected, note = _count(judged, name), "" if row.sum else "the official script divides by zero here"
        for metric, unit in units.items():
            value, group = getattr(row, metric), ("category", name)
            yield Score(metric, value, unit, row.sum, expected, group, order, note=note)
    units = {"fail_num": "lines", "success_num": "lines", "percentage": ""}
    for metric, unit in units.items():
        yield Score(metric, getattr(table, metric), unit, table.success_num, len(judged), reading=order)


def _published(final: Mapping[str, float | None], judged: Sequence[Judged], note: str) -> Iterable[Score]:
    scored = [each for each in judged if (both := each.verdicts.get("both")) and both.value is not None]
    for name, value in final.items():
        names = {"mixed_audio": MIXED, "average": tuple(CATEGORIES.values())}.get(name, (name,))
        have, want = _count(scored, *names), _count(judged, *names)
        yield Score("score", value, "points", have, want, ("category", name), "both", note=note)


def _count(judged: Sequence[Judged], *categories: str) -> int:
    return sum(each.item.groups.get("category") in categories for each in judged)
