"""The report: one HTML page that needs nothing but itself."""

import dataclasses
import functools
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from bagpiper_jax.evaluation.page import write_page
from bagpiper_jax.evaluation.pictures import figure, line_chart
from bagpiper_jax.evaluation.scores import Score

_LOSS_CHART = (
    "loss",
    "loss_audio_to_caption",
    "loss_caption_to_audio",
    "loss_understanding",
    "loss_generation",
)


@dataclasses.dataclass(frozen=True)
class Exhibit:
    """One held-out clip as the page shows it; what was not made is None.

    Attributes:
        title: id and domain.
        original, codec_copy, generated: 16 kHz waveforms: the clip, the clip through the codec, and the audio
            that the model made from the true caption.
        caption, heard, reheard: the true caption, the model's of the original, and the model's of `generated`.
    """

    title: str
    original: np.ndarray
    caption: str
    heard: str | None = None
    codec_copy: np.ndarray | None = None
    generated: np.ndarray | None = None
    reheard: str | None = None


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run: its name, its lines of `metrics.jsonl`, its `metrics.json` and `config.json`."""

    name: str
    history: tuple[dict, ...] = ()
    summary: Mapping = dataclasses.field(default_factory=dict)
    config: Mapping = dataclasses.field(default_factory=dict)


def read_run(name: str, directory: str | os.PathLike) -> Run:
    """What a run left in its output directory; what is missing stays empty."""
    directory = Path(directory)
    lines = directory / "metrics.jsonl"
    history = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    return Run(name, tuple(history), _json(directory / "metrics.json"), _json(directory / "config.json"))


def write_report(
    path: str | os.PathLike,
    title: str,
    scores: Mapping[str, Mapping[str, Score]],
    runs: Sequence[Run] = (),
    exhibits: Sequence[Exhibit] = (),
    codebooks: Sequence[Mapping[str, float]] = (),
    dialogues: Sequence[Mapping] = (),
    audible: bool = True,
) -> Path:
    """Writes the page.

    Args:
        path: of the HTML file.
        title: its heading.
        scores: section → name → score.
        runs: training runs, for loss curves and settings.
        exhibits: clips to see and hear.
        codebooks: share used and perplexity per codebook.
        dialogues: question or request, reply and truth, as text.
        audible: embed the audio; without it the page shows recordings that may not be passed on.
    """
    show = functools.partial(figure, audible=audible)
    body = [
        f"<header><h1>{escape(title)}</h1>{_facts(runs)}</header>",
        _tiles(scores),
        *(_scores(section, table) for section, table in scores.items() if table),
        *(_curves(run) for run in runs),
        _codebooks(codebooks),
        _dialogues(dialogues, show),
        _exhibits(exhibits, show),
        *(_settings(run) for run in runs if run.config),
    ]
    return write_page(path, title, body)


def _facts(runs: Sequence[Run]) -> str:
    found = []
    for run in runs:
        steps = max((line["step"] for line in run.history), default=None)
        parts = [f"{steps:,} steps" if steps else "", *_sizes(run.config)]
        found.append(f"<li><b>{escape(run.name)}</b> {escape(' · '.join(filter(None, parts)))}</li>")
    return f"<ul>{''.join(found)}</ul>" if found else ""


def _sizes(config: Mapping) -> list[str]:
    decoder = config.get("model", {}).get("decoder", {})
    tower = config.get("model", {}).get("tower", {})
    return [
        f"{name} {part['layers']} layers × {part['width']}"
        for name, part in (("decoder", decoder), ("audio tower", tower))
        if part
    ]


def _tiles(scores: Mapping[str, Mapping[str, Score]]) -> str:
    """The promised numbers, large."""
    promised = [(n, s) for table in scores.values() for n, s in table.items() if s.target is not None]
    tiles = [
        f'<div class="tile {_verdict(score)}"><b>{_number(score, score.value)}</b><span>{_words(name)}</span>'
        f"<small>target {_number(score, score.target)}"
        f"{'' if score.baseline is None else f' · baseline {_number(score, score.baseline)}'}</small></div>"
        for name, score in promised
    ]
    return f'<section class="tiles">{"".join(tiles)}</section>' if tiles else ""


def _scores(section: str, table: Mapping[str, Score]) -> str:
    rows = "".join(
        f"<tr><th scope=row>{_words(name)}<small>{escape(score.note)}</small></th>"
        f'<td class="value {_verdict(score)}">{_number(score, score.value)}{_bar(score)}</td>'
        f"<td>{_number(score, score.baseline)}</td><td>{_number(score, score.target)}</td>"
        f"<td>{score.n or '–'}</td></tr>"
        for name, score in table.items()
    )
    return (
        f"<section><h2>{escape(section)}</h2><div class=scroll><table><thead><tr><th></th><th>model</th>"
        f"<th>baseline</th><th>target</th><th>n</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _bar(score: Score) -> str:
    if not score.is_share or not math.isfinite(score.value):
        return ""
    base = "" if score.baseline is None else f'<u style="left:{100 * score.baseline:.1f}%"></u>'
    return f'<div class="bar"><i style="width:{100 * score.value:.1f}%"></i>{base}</div>'


def _verdict(score: Score) -> str:
    """A target is no achievement where the most frequent answer reaches it as well."""
    if score.target is None:
        return ""
    sign = 1 if score.higher_is_better else -1
    met = sign * score.value >= sign * score.target
    beyond_baseline = score.baseline is None or sign * score.value > sign * score.baseline
    return "good" if met and beyond_baseline else "short"


def _number(score: Score, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:.1f} %" if score.is_share else f"{value:.3g}"


def _words(name: str) -> str:
    return escape(name.replace("_", " "))


def _curves(run: Run) -> str:
    unigram = run.summary.get("validation", {}).get("unigram_loss")
    reference = {"unigram": unigram} if unigram is not None else {}
    lines = {}
    for kind in dict.fromkeys(line.get("kind", "train") for line in run.history):
        points = [line for line in run.history if line.get("kind", "train") == kind]
        for name in _LOSS_CHART:
            if drawn := [(line["step"], line[name]) for line in points if name in line]:
                lines[f"{kind} {name.removeprefix('loss_').replace('_', ' ')}"] = drawn
    streams = {
        f"stream {s}": [(line["step"], line[f"loss_stream{s}"]) for line in run.history
                        if line.get("kind", "train") == "train" and f"loss_stream{s}" in line]
        for s in range(8)
    }  # fmt: skip
    charts = line_chart("Loss", lines, reference) + line_chart(
        "Cross-entropy per stream, training", {name: line for name, line in streams.items() if line}
    )
    return (
        f'<section><h2>Training: {escape(run.name)}</h2><div class="charts">{charts}</div></section>'
        if charts
        else ""
    )


def _codebooks(codebooks: Sequence[Mapping[str, float]]) -> str:
    if not codebooks:
        return ""
    columns = "".join(f"<th scope=col>{number}</th>" for number in range(len(codebooks)))
    used = "".join(f"<td>{100 * book['used']:.0f} %</td>" for book in codebooks)
    perplexity = "".join(f"<td>{book['perplexity']:.0f}</td>" for book in codebooks)
    return (
        '<section><h2>Codec: use of the codebooks</h2><div class=scroll><table class="plain"><thead><tr>'
        f"<th>codebook</th>{columns}</tr></thead><tbody><tr><th scope=row>codes used</th>{used}</tr>"
        f"<tr><th scope=row>perplexity</th>{perplexity}</tr></tbody></table></div></section>"
    )


def _exhibits(exhibits: Sequence[Exhibit], show: Callable) -> str:
    if not exhibits:
        return ""
    return f"<section><h2>Held-out clips</h2>{''.join(_exhibit(exhibit, show) for exhibit in exhibits)}</section>"


def _exhibit(exhibit: Exhibit, show: Callable) -> str:
    pairs = [
        (exhibit.original, "the clip", exhibit.caption, "true caption"),
        (exhibit.codec_copy, "through the codec", exhibit.heard, "the model's caption of the clip"),
        (
            exhibit.generated,
            "made from the true caption",
            exhibit.reheard,
            "the model's caption of what it made",
        ),
    ]
    sounds = "".join(show(wave, label) for wave, label, _, _ in pairs if wave is not None)
    texts = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape(text)}</dd></div>"
        for _, _, text, label in pairs
        if text is not None
    )
    return f'<article><h3>{escape(exhibit.title)}</h3><div class="players">{sounds}</div><dl>{texts}</dl></article>'


def _dialogues(dialogues: Sequence[Mapping], show: Callable) -> str:
    if not dialogues:
        return ""
    items = "".join(
        f"<details><summary>{escape(d.get('question') or d.get('request', ''))} "
        f"<b>{escape(d.get('answer', ''))}</b></summary>"
        f"<pre>{escape(d['reply'])}</pre>"
        + (f"<p>True answer: {escape(d['truth'])}</p>" if "truth" in d else "")
        + (f"<p>Heard in the generated audio: {escape(d['heard'])}</p>" if "heard" in d else "")
        + (show(d["audio"], "the reply's audio") if d.get("audio") is not None and len(d["audio"]) else "")
        + "</details>"
        for d in dialogues
    )
    return f"<section><h2>Dialogues: caption first, then process</h2>{items}</section>"


def _settings(run: Run) -> str:
    text = json.dumps(run.config, indent=1, sort_keys=True)
    return f"<details><summary>Settings: {escape(run.name)}</summary><pre>{escape(text)}</pre></details>"


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
