"""Caches, plans and rows as text for a terminal."""

import collections
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from bagpiper_jax import dialogue
from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.data.loader import Loader
from bagpiper_jax.data.planner import FinitePlan, Planned
from bagpiper_jax.data.records import DIRECTIONS, Record
from bagpiper_jax.text import TextTokenizer

_QUANTILES = (0.05, 0.5, 0.95, 1.0)


def describe_record(record: Record, tokenizer: TextTokenizer) -> str:
    """One example, message by message, as it was authored."""
    lines = [f"{record.id}"]
    for message in record.messages():
        if message.modality == "text":
            said = tokenizer.decode(message.content)
        elif message.is_codec:
            said = f"<{len(message.content)} codec frames>"
        else:
            said = f"<{len(message.content)} samples, {len(message.content) / 16_000:.2f} s>"
        weight = "" if message.weight == 1 else f" (weight {message.weight:g})"
        lines.append(f"  {message.role} {message.modality}{weight}: {said}")
    return "\n".join(lines)


def describe_row(loader: Loader, step: int, row: int, tokenizer: TextTokenizer) -> str:
    """One global row of any step: what is packed in it, read back from its tokens."""
    planned = loader.plan.row(step * loader.shape.rows + row)
    used, chunks = int(planned.length.sum()), int(planned.chunks.sum())
    lines = [
        f"step {step} row {row}: {len(planned)} examples, {used} of {loader.shape.slots} slots, "
        f"{chunks} of {loader.shape.chunks} audio chunks"
    ]
    for task, epoch, index, rendered in rendered_examples(loader, planned):
        lines.append(f"[{loader.task_names[task]} epoch {epoch} record {index}]")
        if rendered is None:
            lines.append("  damaged: its slots are empty")
            continue
        targets = int((rendered.loss_weights[:, 0] > 0).sum())
        lines.append(f"  {len(rendered)} slots, {targets} with loss")
        lines += [f"  {line}" for line in _read_back(rendered, loader, tokenizer)]
    return "\n".join(lines)


def rendered_examples(loader: Loader, planned: Planned) -> Iterator[tuple]:
    """(task, epoch, index, rendered example or None) of a planned row."""
    columns = (planned.task, planned.epoch, planned.index, planned.length)
    for task, epoch, index, length in zip(*(c.tolist() for c in columns), strict=True):
        yield task, epoch, index, loader.rows.example(task, epoch, index, length)


def _read_back(rendered: dialogue.Sequence, loader: Loader, tokenizer: TextTokenizer) -> list[str]:
    lines = [] if rendered.tokens[0, 0] else ["(condition dropped)"]
    for role, modality, content in dialogue.parse(rendered.tokens, loader.vocabulary):
        if modality == "text":
            lines.append(f"{role} text: {tokenizer.decode(content)}")
        elif role == "assistant":
            lines.append(f"{role} audio: {len(content)} codec frames")
        else:
            lines.append(f"{role} audio: continuous")
    return lines


def describe_mixture(loader: Loader, steps: int, sampled_windows: int = 4) -> str:
    """What a run of `steps` steps will see, per task, and how tightly it is packed."""
    plan, rows_of_run = loader.plan, steps * loader.shape.rows
    rows = _sample(plan, sampled_windows)
    examples, tokens = np.zeros(len(plan.tasks)), np.zeros(len(plan.tasks))
    for row in rows:
        examples += np.bincount(row.task, minlength=len(examples))
        tokens += np.bincount(row.task, row.length, minlength=len(tokens))
    slots, chunks = sum(int(r.length.sum()) for r in rows), sum(int(r.chunks.sum()) for r in rows)
    lines = [
        f"mixture {loader.lock.mixture}, rates count {loader.lock.rate_unit}",
        f"{'task':<32}{'records':>9}{'rate':>7}{'examples':>10}{'tokens':>8}{'epochs':>8}   "
        f"slots at {', '.join(f'{q:.0%}' for q in _QUANTILES)}",
    ]
    for t, task in enumerate(plan.tasks):
        epochs = examples[t] / len(rows) * rows_of_run / len(plan.usable[t])
        quantiles = " ".join(f"{int(q)}" for q in np.quantile(task.length, _QUANTILES))
        lines.append(
            f"{task.name:<32}{len(task.length):>9}{task.rate:>7.3g}{examples[t] / examples.sum():>10.1%}"
            f"{tokens[t] / tokens.sum():>8.1%}{epochs:>8.2f}   {quantiles}"
        )
    lines.append(
        f"packing: {slots / len(rows) / loader.shape.slots:.2%} of slots, "
        f"{chunks / len(rows) / max(1, loader.shape.chunks):.2%} of audio chunks, "
        f"{sum(map(len, rows)) / len(rows):.1f} examples a row (at most {max(map(len, rows))})"
    )
    shares = direction_shares(loader, rows)
    lines.append(
        "slots by direction: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items() if share)
    )
    for lost in plan.excluded:
        lines.append(f"left out, longer than a row: {lost.examples} of {lost.task} ({lost.tokens} tokens)")
    return "\n".join(lines)


def _sample(plan, windows: int) -> list[Planned]:
    if isinstance(plan, FinitePlan):
        return [plan.row(r) for r in range(len(plan))]
    return [row for window in range(windows) for row in plan.window(window)]


def describe_rejects(cache: TaskCache, limit: int) -> str:
    """Counts by reason, and the first rejects of each reason."""
    lines = [f"{cache.directory}"]
    lines += [f"  {count:>8} {reason}" for reason, count in cache.manifest["counts"].items()]
    shown = collections.Counter()
    for reject in cache.rejects():
        shown[reject["reason"]] += 1
        if shown[reject["reason"]] <= limit:
            lines.append(f"  {reject['id'] or '(no id)'}: {reject['detail'][:300]}")
    return "\n".join(lines)


Decode = Callable[[list[np.ndarray]], list[np.ndarray]]
"""Codes int [N, S] of each clip → its 16 kHz waveform."""


def write_record_audio(
    record: Record, directory: Path, stem: str, decode: Decode | None = None
) -> list[Path]:
    """Writes an example's clips as `<stem>_<n>.flac`, decoded codes as `<stem>_codes<n>.wav`; returns the paths."""
    messages = record.messages()
    heard = [message.content for message in messages if message.is_continuous]
    codes = [message.content for message in messages if message.is_codec]
    return _write_clips(directory, stem, heard, codes, decode)


def write_row_audio(
    loader: Loader, step: int, row: int, directory: Path, decode: Decode | None = None
) -> list[Path]:
    """The same for every example of a row, from what the model is given."""
    written = []
    planned = loader.plan.row(step * loader.shape.rows + row)
    for place, (task, _, _, rendered) in enumerate(rendered_examples(loader, planned)):
        if rendered is not None:
            stem = f"step{step}_row{row}_{place:02d}_{loader.task_names[task]}"
            heard = [span.samples for span in rendered.audio]
            messages = dialogue.parse(rendered.tokens, loader.vocabulary)
            codes = [content for role, kind, content in messages if (role, kind) == ("assistant", "audio")]
            written += _write_clips(directory, stem, heard, codes, decode)
    return written


def _write_clips(directory: Path, stem: str, heard: list, codes: list, decode: Decode | None) -> list[Path]:
    from bagpiper_jax import audio

    clips = {f"{stem}_{number}.flac": samples for number, samples in enumerate(heard)}
    if decode is not None and codes:
        clips |= {f"{stem}_codes{number}.wav": samples for number, samples in enumerate(decode(codes))}
    directory.mkdir(parents=True, exist_ok=True)
    for name, samples in clips.items():
        audio.write(directory / name, samples)
    return [directory / name for name in clips]


def direction_shares(loader: Loader, rows: Sequence[Planned]) -> dict[str, float]:
    """Share of slots by direction."""
    slots = np.zeros(len(DIRECTIONS))
    for row in rows:
        for task, index, length in zip(row.task, row.index, row.length, strict=True):
            slots[loader.plan.tasks[task].direction[index]] += length
    return {name: float(s / slots.sum()) for name, s in zip(DIRECTIONS, slots, strict=True)}
