"""Everything that inspection finds, as text for a terminal."""

import collections
import json
from collections.abc import Sequence

from bagpiper_jax.audio import SAMPLE_RATE
from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.inspection.clip_history import Fate, Origin
from bagpiper_jax.inspection.comparison import Difference, TaskDifference
from bagpiper_jax.inspection.examples import Said, Shown, ShownRow
from bagpiper_jax.inspection.survey import QUANTILES, Survey, TaskSurvey
from bagpiper_jax.inspection.tuning_data import Judged
from bagpiper_jax.inspection.validation import Validation


def describe_example(example: Shown) -> str:
    """One example, message by message, as it was authored."""
    lines = [example.id or "(no id)", f"  {len(example)} slots, {example.targets} with loss{example.which}"]
    return "\n".join([*lines, *_messages(example)])


def _messages(example: Shown) -> list[str]:
    return [f"  {_message(message)}" for message in example.messages]


def _message(message: Said) -> str:
    if message.text is not None:
        said = message.text
    elif message.codes is not None:
        said = f"<{len(message.codes)} codec frames>"
    else:
        said = f"<{len(message.samples)} samples, {len(message.samples) / SAMPLE_RATE:.2f} s>"
    weight = "" if message.weight == 1 else f" (weight {message.weight:g})"
    dropped = " (dropped)" if message.dropped else ""
    return f"{message.role} {message.modality}{weight}{dropped}: {said}"


def describe_row(row: ShownRow) -> str:
    """One packed row, example by example."""
    lines = [f"{row.title}: {row_facts(row)}"]
    for example in row.examples:
        lines.append(f"[{example.task} epoch {example.epoch} record {example.index}] {example.id}")
        if example.fault:
            lines.append(f"  damaged, its slots are empty: {example.fault}")
            continue
        lines.append(f"  {len(example)} slots, {example.targets} with loss{example.which}")
        lines += _messages(example)
    return "\n".join(lines)


def row_facts(row: ShownRow) -> str:
    """How full a row is."""
    used, slots = row.slots
    chunks, most = row.chunks
    return (
        f"{len(row.examples)} examples, {used} of {slots} slots, {chunks} of {most} audio chunks, "
        f"{row.clips} clips heard"
    )


def describe_survey(found: Survey) -> str:
    """What a run will see, per task, and how tightly it is packed."""
    heads = " ".join(f"{f'{q:.0%}':>6}" for q in QUANTILES)
    lines = [
        f"mixture {found.mixture}, split {found.split}, rates count {found.rate_unit}; {found.steps} steps of "
        f"{found.rows} rows of {found.slots} slots: {found.run_tokens:.4g} tokens",
        f"{'task':<32}{'records':>10}{'rate':>8}{'examples':>10}{'tokens':>8}{'epochs':>9}{'over-long':>11}"
        f"{'rejected':>10}   slots at {heads}",
        *(_task_line(task) for task in found.tasks),
        f"packing: {found.packing:.2%} of slots, {found.chunk_packing:.2%} of audio chunks, "
        f"{found.examples_per_row[0]:.1f} examples a row (at most {found.examples_per_row[1]}), "
        f"measured on {found.sampled} rows",
        "slots by direction: " + ", ".join(f"{name} {share:.1%}" for name, share in found.directions.items()),
    ]
    lost = (t for t in found.tasks if t.over_long)
    lines += [
        f"left out, longer than a row: {t.over_long:.1%} of {t.name} ({t.over_long_tokens:.1%} of its slots); its "
        f"longest has {t.largest[0]} slots and {t.largest[1]} audio chunks, a row {found.slots} and {found.chunks}"
        for t in lost
    ]
    return "\n".join(lines)


def _task_line(task: TaskSurvey) -> str:
    slots = " ".join(f"{length:>6}" for length in task.slots)
    return (
        f"{task.name:<32}{task.records:>10}{task.rate:>8.1%}{task.examples:>10.1%}{task.tokens:>8.1%}"
        f"{task.epochs:>9.2f}{task.over_long:>11.2%}{task.reject_share:>10.2%}{'':>12}{slots}"
    )


def describe_validation(found: Validation) -> str:
    """The survey, spans per row and a glance at the decoded rows, notes, and the violations last."""
    lines = [describe_survey(found.survey)] if found.survey else []
    if found.rows:
        clips, chunks = [row.clips for row in found.rows], [row.chunks[0] for row in found.rows]
        lines += [
            f"audio spans a row: {sum(clips) / len(clips):.1f} (at most {max(clips)}), "
            f"{sum(chunks) / len(chunks):.1f} s heard, measured on {len(found.rows)} decoded rows",
            "",
            *(_glance(row) for row in found.rows),
            "",
        ]
    lines += [describe_judged(judged) for judged in found.judged]
    lines += [f"note: {note}" for note in found.notes]
    if not found.violations:
        return "\n".join([*lines, "valid: no limit is violated"])
    lines.append(f"INVALID, {count_violations(found)}:")
    return "\n".join([*lines, *(f"  {violation}" for violation in found.violations)])


def describe_judged(found: Judged) -> str:
    """What was read of a task's dialogues, and how many contradict themselves, by reason."""
    of = f" of {found.total}" if found.total > found.read else ""
    left = (
        f", {found.not_judged} not judged (no question or fact of a known form)" if found.not_judged else ""
    )
    faults = ", ".join(f"{count} {reason}" for reason, count in found.reasons.items()) or "no contradiction"
    return f"{found.what} of {found.place}: {found.read}{of} read, {found.judged} judged{left}: {faults}"


def count_violations(found: Validation) -> str:
    count = len(found.violations)
    return f"{count} violation{'s' if count > 1 else ''}"


def _glance(row: ShownRow) -> str:
    """A decoded row in a line, and the beginning of its first example."""
    lines = [f"decoded {row.title}: {row_facts(row)}"]
    for example in row.examples[:1]:
        lines.append(f"  [{example.task} record {example.index}] {example.id}")
        lines += [f"    {_shortened(_message(message))}" for message in example.messages]
    return "\n".join(lines)


def _shortened(text: str, most: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def describe_rejects(cache: TaskCache, limit: int) -> str:
    """Counts by reason, and the first rejects of each reason."""
    lines = [f"{cache.directory}"]
    lines += [f"  {count:>8} {reason}" for reason, count in cache.manifest["counts"].items()]
    lines += [
        f"  {reject['id'] or '(no id)'}: rejected {reject['reason']}: {reject['detail'][:300]}"
        for reject in some_rejects(cache, limit)
    ]
    return "\n".join(lines)


def some_rejects(cache: TaskCache, limit: int) -> list[dict]:
    """The first `limit` rejects of each reason."""
    shown, found = collections.Counter(), []
    for reject in cache.rejects():
        shown[reject["reason"]] += 1
        if shown[reject["reason"]] <= limit:
            found.append(reject)
    return found


def describe_absence(fate: Fate) -> str:
    """A clip that has no example in a task."""
    if fate.fault:
        return f"{fate.task}: {fate.fault}"
    if fate.reject is None:
        return f"{fate.task}: no example; the task skipped the clip, or its corpus does not hold it"
    return f"{fate.task}: rejected as {fate.reject['reason']}: {fate.reject['detail']}"


def describe_origin(found: Origin) -> str:
    """A clip as its corpus has it, or as its corpus rejected it."""
    return "\n".join([f"in {found.corpus}:", *(f"  {name}: {value}" for name, value in origin_facts(found))])


def origin_facts(found: Origin) -> list[tuple[str, str]]:
    """Fields that are set, by name."""
    fields = vars(found.clip) if found.clip else found.reject
    return [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in fields.items()
        if value not in (None, "", [])
    ]


def describe_difference(found: Difference, most: int = 5) -> str:
    """What differs between two caches; of every kind of clip the first `most`."""
    lines = [f"first   {found.first}", f"second  {found.second}", *found.settings]
    for task in found.tasks:
        lines += _task_difference(task, most)
    return "\n".join([*lines, "equal" if found.is_equal else "DIFFERENT"])


def _task_difference(task: TaskDifference, most: int) -> list[str]:
    lines = [
        f"{task.task}: {task.records[0]} → {task.records[1]} records; {task.same} the same, "
        f"{len(task.changed)} changed, {len(task.removed)} removed, {len(task.added)} added"
    ]
    lines += [f"  made from {line}" for line in task.made_from]
    lines += _listed("removed", task.removed, most) + _listed("added", task.added, most)
    changed = [f"{c.id} ({', '.join(c.parts)})" for c in task.changed]
    return lines + _listed("changed", changed, most) + _listed("damaged", task.damaged, most)


def _listed(kind: str, names: Sequence[str], most: int) -> list[str]:
    more = [f"  {kind}: … and {len(names) - most} more"] if len(names) > most else []
    return [f"  {kind}: {name}" for name in names[:most]] + more
