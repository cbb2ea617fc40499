"""The report: one HTML page that needs nothing but itself."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bagpiper_jax.audio import SAMPLE_RATE
from bagpiper_jax.evaluation.scores import Score
from bagpiper_jax.evaluation.training_run import Run, is_number, part_of
from bagpiper_jax.pages.charts import LineChart, line_chart
from bagpiper_jax.pages.pictures import mel_spectrogram
from bagpiper_jax.pages.players import Recording, recording
from bagpiper_jax.pages.rendering import write_page

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
        path: the HTML file.
        title: the report's heading.
        scores: section → name → score.
        runs: training runs, for loss curves and settings.
        exhibits: clips to see and hear.
        codebooks: share used and perplexity per codebook.
        dialogues: question or request, reply and truth, as text.
        audible: embed the audio; without it the page shows recordings that may not be passed on.
    """
    tables = {section: _table(scored) for section, scored in scores.items()}
    return write_page(
        path,
        "report.html.j2",
        title=title,
        runs=[_run(run) for run in runs],
        promised=[score for table in tables.values() for score in table if score.promise],
        tables=tables,
        codebooks=codebooks,
        dialogues=[_dialogue(dialogue, audible) for dialogue in dialogues],
        exhibits=[_exhibit(exhibit, audible) for exhibit in exhibits],
    )


def _run(run: Run) -> dict:
    """A run's name, its facts in a line, its curves and its settings as JSON."""
    steps = max((line["step"] for line in run.history), default=None)
    parts = [f"{steps:,} steps" if steps else "", *_sizes(run.config)]
    settings = json.dumps(run.config, indent=1, sort_keys=True) if run.config else ""
    facts = " · ".join(filter(None, parts))
    return {"name": run.name, "facts": facts, "charts": _curves(run), "settings": settings}


def _sizes(config: Mapping) -> list[str]:
    parts = {"decoder": part_of(config, "model", "decoder"), "audio tower": part_of(config, "model", "tower")}
    return [
        f"{name} {part['layers']} layers × {part['width']}"
        for name, part in parts.items()
        if {"layers", "width"} <= part.keys()
    ]


@dataclasses.dataclass(frozen=True)
class _ScoreLine:
    """A score as it is printed.

    Attributes:
        promise: target and baseline in a line; "" where nothing is promised.
        share, baseline_share: of the bar, in percent; None where there is no bar or no baseline.
    """

    name: str
    note: str
    value: str
    baseline: str
    target: str
    n: int
    verdict: str
    promise: str
    share: float | None
    baseline_share: float | None


def _table(scores: Mapping[str, Score]) -> list[_ScoreLine]:
    return [_score_line(name, score) for name, score in scores.items()]


def _score_line(name: str, score: Score) -> _ScoreLine:
    value, baseline, target = (_number(score, x) for x in (score.value, score.baseline, score.target))
    promise = "" if score.target is None else f"target {target}"
    if promise and score.baseline is not None:
        promise += f" · baseline {baseline}"
    has_bar = score.is_share and math.isfinite(score.value)
    return _ScoreLine(
        name.replace("_", " "), score.note, value, baseline, target, score.n, _verdict(score), promise,
        share=100 * score.value if has_bar else None,
        baseline_share=None if score.baseline is None else 100 * score.baseline,
    )  # fmt: skip


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


def _curves(run: Run) -> list[LineChart]:
    unigram = part_of(run.summary, "validation").get("unigram_loss")
    reference = {"unigram": unigram} if is_number(unigram) and math.isfinite(unigram) else {}
    lines = {}
    for kind in dict.fromkeys(line.get("kind", "train") for line in run.history):
        points = [line for line in run.history if line.get("kind", "train") == kind]
        for name in _LOSS_CHART:
            if drawn := _points(points, name):
                lines[f"{kind} {name.removeprefix('loss_').replace('_', ' ')}"] = drawn
    trained = [line for line in run.history if line.get("kind", "train") == "train"]
    streams = {f"stream {s}": _points(trained, f"loss_stream{s}") for s in range(8)}
    charts = [
        line_chart("Loss", lines, reference),
        line_chart(
            "Cross-entropy per stream, training", {name: line for name, line in streams.items() if line}
        ),
    ]
    return [chart for chart in charts if chart]


def _points(lines: Sequence[Mapping], name: str) -> list[tuple[float, float]]:
    """(step, value) where a line has the value."""
    return [(line["step"], line[name]) for line in lines if is_number(line.get(name))]


def _exhibit(exhibit: Exhibit, audible: bool) -> dict:
    """What there is to hear of a clip, and what was written of it."""
    sounds = {
        "the clip": exhibit.original,
        "through the codec": exhibit.codec_copy,
        "made from the true caption": exhibit.generated,
    }
    captions = {
        "true caption": exhibit.caption,
        "the model's caption of the clip": exhibit.heard,
        "the model's caption of what it made": exhibit.reheard,
    }
    return {
        "title": exhibit.title,
        "recordings": [_recording(w, label, audible) for label, w in sounds.items() if w is not None],
        "captions": [(label, text) for label, text in captions.items() if text is not None],
    }


def _dialogue(dialogue: Mapping, audible: bool) -> dict:
    """A question with its answer, or a request with what was heard in the reply's audio."""
    audio = dialogue.get("audio")
    has_audio = audio is not None and len(audio) > 0
    return {
        "asked": dialogue.get("question") or dialogue.get("request", ""),
        "answer": dialogue.get("answer", ""),
        "reply": dialogue["reply"],
        "truth": dialogue.get("truth"),
        "heard": dialogue.get("heard"),
        "recording": _recording(audio, "the reply's audio", audible) if has_audio else None,
    }


def _recording(samples: np.ndarray, caption: str, audible: bool) -> Recording:
    seconds = f"{len(samples) / SAMPLE_RATE:.1f} s"
    return recording(samples, caption, mel_spectrogram, seconds, audible)
