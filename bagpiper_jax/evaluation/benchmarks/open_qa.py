"""Open questions about audio that a judge rates against a reference, as AudioBench scores them.

Files: a folder with a `.json` or `.jsonl` for each set, such as `audiocaps_qa.jsonl`, whose records have `instruction`
and `reference`. They may have `id`, else they are numbered, and `audio`, a path from the folder, else it is
`<set>/<id>.wav`. Sets whose name ends in `_mcq` are rated 0 or 1, all others from 0 to 5.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.judging import RATING, JudgePrompt
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Item, Judged, Reply, Score, Tools, Verdict
from bagpiper_jax.evaluation.benchmarks.records import Record, read_records, unique_by, write_records
from bagpiper_jax.evaluation.benchmarks.replies import ROOM, recorded_replies
from bagpiper_jax.evaluation.metrics.ratings import SCALES, judge_score, rating, success_rate
from bagpiper_jax.evaluation.metrics.reply_parts import reply_parts

_BINARY = "_mcq"
_KEY = "model_prediction"
_GRADES = {
    "graded": "from 0 (wrong, refused or beside the question) to 5 (all that the reference says, and nothing else)",
    "binary": "0 (another answer than the reference, or none) or 1 (the answer of the reference)",
}


class OpenQa:
    """The benchmark `open_qa`. Its files are the folder of the sets."""

    name, version, failed, unit = "open_qa", "e991641d", 0.0, "of 100"
    overlaps = ("audiobench_train_v1", "audiocaps", "wavcaps")

    def __init__(self, files: Path, tools: Tools):
        self._sets = sorted(path for ending in ("json", "jsonl") for path in files.glob(f"*.{ending}"))
        if len({path.stem for path in self._sets}) < len(self._sets):
            raise BenchmarkError(f"{files} holds a set twice, as .json and as .jsonl; keep one of them")
        if not self._sets:
            raise BenchmarkError(
                f"{files} holds no set such as audiocaps_qa.jsonl; name the folder of the sets"
            )
        self._folder, self._tools = files, tools
        self._prompt = JudgePrompt(files, RATING)

    def items(self) -> Iterable[Item]:
        for path in self._sets:
            for record in unique_by(read_records(path), _id_of(path)):
                yield self._item(_id_of(path)(record), path.stem, record)

    def verdicts(self, item: Item, reply: Reply) -> Mapping[str, Verdict]:
        """The rating, where 100 is the highest; the judge's reply is in `answer`."""
        scale = _scale(item.groups["set"])
        text = self._prompt.filled(
            question=item.record["instruction"],
            reference=item.record["reference"],
            prediction=reply_parts(reply.text).answer,
            grades=_GRADES[scale],
        )
        raw = self._tools.judge(item.id, "rating", [{"role": "user", "content": text}], 0.0, 512)
        found = rating(raw)
        if found is None:
            return {"judge": Verdict(None, raw, "no_rating")}
        if not 0 <= found <= SCALES[scale]:
            return {"judge": Verdict(None, raw, "rating_out_of_range")}
        return {"judge": Verdict(100 * found / SCALES[scale], raw)}

    def official(self, judged: Sequence[Judged]) -> list[Score]:
        """Each set's mean rating out of 100 and share of readable ratings; then the mean of the sets, which is ours."""
        table, means = [], []
        for name in dict.fromkeys(each.item.groups["set"] for each in judged):
            of_set = [each for each in judged if each.item.groups["set"] == name]
            raw = [each.verdicts["judge"].answer for each in of_set if "judge" in each.verdicts]
            mean, rate = (judge_score(raw, _scale(name)), success_rate(raw)) if raw else (None, None)
            place = {"scored": len(raw), "expected": len(of_set), "group": ("set", name), "reading": "judge"}
            table.append(Score("judge_score", _finite(mean), "of 100", **place, note=self._note(mean)))
            table.append(Score("success_rate", rate, "", **place))
            means.append(_finite(mean))
        total = sum(means) / len(means) if means and None not in means else None
        note = f"the mean of these sets; {self._prompt.remark}"
        scored = sum("judge" in each.verdicts for each in judged)
        return [
            *table,
            Score("mean_of_sets", total, "of 100", scored, len(judged), reading="judge", note=note),
        ]

    def recorded(self, path: Path) -> dict[str, Reply]:
        """Replies of a set's file of predictions, or of a folder of them: the records with `model_prediction`."""
        places = sorted([*path.glob("*.json"), *path.glob("*.jsonl")]) if path.is_dir() else [path]
        found: dict[str, Reply] = {}
        for place in places:
            found |= recorded_replies(place, _KEY, _id_of(place))
        return found

    def write(self, folder: Path, judged: Iterable[Judged]) -> None:
        """Writes a file of predictions for each set, with the answers of the replies."""
        sets: dict[str, list[dict]] = {}
        for each in judged:
            if not each.reply.fault:
                line = {**each.item.record, _KEY: reply_parts(each.reply.text).answer}
                sets.setdefault(each.item.groups["set"], []).append(line)
        for name, lines in sets.items():
            write_records(folder / f"{name}.jsonl", lines)

    def _note(self, mean: float | None) -> str:
        if mean is None or math.isfinite(mean):
            return self._prompt.remark
        return f"the official script prints {mean}: a judge's reply ends with that word"

    def _item(self, id: str, name: str, record: Record) -> Item:
        record.text("reference")
        audio = record.text("audio", f"{name}/{id.removeprefix(f'{name}_')}.wav")
        asked = Asked(record.text("instruction"), self._folder / audio, max_tokens=ROOM)
        return Item(id, asked, record.fields, {"set": name}, cluster=audio)


def _id_of(path: Path) -> Callable[[Record], str]:
    """Record → the name of its set with its own id, or with its number."""
    return lambda record: f"{path.stem}_{record.fields.get('id', record.number)}"


def _scale(name: str) -> str:
    return "binary" if name.endswith(_BINARY) else "graded"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
