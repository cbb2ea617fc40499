"""What benchmarks of multiple-choice questions share: verdicts by every reading, and the table of MMAU and MMAR."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Item, Judged, Reply, Score, Verdict
from bagpiper_jax.evaluation.benchmarks.records import Record
from bagpiper_jax.evaluation.benchmarks.replies import ROOM
from bagpiper_jax.evaluation.metrics.choices import is_right
from bagpiper_jax.evaluation.metrics.letters import lmms_eval_letter
from bagpiper_jax.evaluation.metrics.options import option
from bagpiper_jax.evaluation.metrics.reply_parts import reply_parts


def by_words(reply: Reply, answer: str, choices: Sequence[str]) -> Verdict:
    """The official word-set rule over the whole reply."""
    return Verdict(float(is_right(reply.text, answer, choices)), reply.text)


def by_option(reply: Reply, answer: str, choices: Sequence[str]) -> Verdict:
    """The choice that the answer of a reply means, without caption, reasoning and label; None if it means none."""
    said = reply_parts(reply.text).answer
    meant = option(said, choices)
    if meant.place is None:
        return Verdict(None, said, meant.how)
    chosen = choices[meant.place]
    return Verdict(float(chosen == answer), chosen, meant.how)


def by_letter(reply: Reply, answer: str, choices: Sequence[str]) -> Verdict:
    """The letter of A to D that lmms-eval finds in the answer; None where it would draw one."""
    letter = lmms_eval_letter(reply_parts(reply.text).answer)
    if letter is None:
        return Verdict(None, reason="no_letter")
    place = ord(letter) - ord("A")
    if place >= len(choices):
        return Verdict(None, letter, "no_such_choice")
    return Verdict(float(choices[place].strip().lower() == answer.strip().lower()), letter)


def hidden(reply: Reply, choices: Sequence[str]) -> dict[str, Verdict]:
    """Verdicts where the right answer is not published: what was extracted, unjudged."""
    read = {"bare": by_words(reply, "", choices), "parsed": by_option(reply, "", choices)}
    return {name: Verdict(None, verdict.answer, "hidden_answer") for name, verdict in read.items()}


def accuracies(judged: Sequence[Judged], rows: Mapping[str, Sequence[str]]) -> list[Score]:
    """The table that the scripts of MMAU and MMAR print, in percent with two places, the total last.

    Replies that are missing are left out of the denominators; a row without any is 0.00, and so says the script.

    Args:
        rows: kind of group → the names that are always printed, in their order; others follow as they come.
    """
    found = [each for each in judged if _value(each) is not None]
    table = []
    for kind, fixed in rows.items():
        scored, expected = _by_group(found, kind), _by_group(judged, kind)
        names = dict.fromkeys([*fixed, *scored])
        table += [_accuracy(scored.get(n, []), len(expected.get(n, ())), (kind, n)) for n in names]
    return [*table, _accuracy(found, len(judged), ("", ""))]


def submitted(judged: Judged, reading: str) -> str | None:
    """What a file of predictions has of a reply: what a reading extracted; None where there is no reply."""
    return judged.verdicts[reading].answer if reading in judged.verdicts else None


def _value(judged: Judged) -> float | None:
    return verdict.value if (verdict := judged.verdicts.get("bare")) else None


def _by_group(judged: Sequence[Judged], kind: str) -> dict[str, list[Judged]]:
    found: dict[str, list[Judged]] = {}
    for each in judged:
        if kind in each.item.groups:
            found.setdefault(each.item.groups[kind], []).append(each)
    return found


def _accuracy(found: list[Judged], expected: int, group: tuple[str, str]) -> Score:
    note = "" if len(found) == expected else "the official script leaves missing replies out"
    if not found and group == ("", ""):
        return Score(
            "accuracy", None, "%", 0, expected, group, "bare", note="nothing to divide by: no reply is scored"
        )
    right = sum(map(_value, found))
    value = float(f"{right / len(found) * 100:.2f}") if found else 0.0
    return Score("accuracy", value, "%", len(found), expected, group, "bare", note=note)


def item_of(record: Record, folder: Path, audio: str, rows: Mapping[str, Sequence[str]], prompt: str) -> Item:
    """The item of a record of MMAU or MMAR, which differ in their names of fields alone.

    Args:
        folder, audio: the folder of the file, and the name of the field with the clip's path from there.
        rows: kind of group → the names that it may have; any where there are none, and the kind may be missing.
        prompt: what is asked.

    Raises:
        BenchmarkError: a field is missing, or is not what it should be.
    """
    record.texts("choices", least=2)
    record.text("answer")
    groups = {
        kind: record.one_of(kind, names) if names else record.text(kind, "") for kind, names in rows.items()
    }
    groups = {kind: name for kind, name in groups.items() if name}
    path = record.text(audio)
    asked = Asked(prompt, folder / path, max_tokens=ROOM)
    return Item(record.id, asked, record.fields, groups, cluster=path)


def question_of(item: Item) -> tuple[str, list[str]]:
    """The right answer and the choices of an item."""
    return item.record["answer"], item.record["choices"]
