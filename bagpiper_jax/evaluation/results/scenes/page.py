"""The report: one HTML page that needs nothing but itself."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bagpiper_jax.audio import SAMPLE_RATE
from bagpiper_jax.evaluation.benchmarks.protocol import Score
from bagpiper_jax.evaluation.results.scenes.score_table import score_tables, summary
from bagpiper_jax.evaluation.results.scenes.training_run import Run, is_number, part_of
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
        heard_right, reheard_right: whether those two name the kinds of the clip's events, in order.
    """

    title: str
    original: np.ndarray
    caption: str
    heard: str | None = None
    codec_copy: np.ndarray | None = None
    generated: np.ndarray | None = None
    reheard: str | None = None
    heard_right: bool | None = None
    reheard_right: bool | None = None


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
        dialogues: those of `exhibits.questions` and `exhibits.requests`; what one lacks is left out.
        audible: embed the audio; without it the page shows recordings that may not be passed on.
    """
    return write_page(
        path,
        "report.html.j2",
        title=title,
        exhibits=[_exhibit(exhibit, audible) for exhibit in exhibits],
        questions=[_question(dialogue, audible) for dialogue in dialogues if "question" in dialogue],
        requests=[_request(dialogue, audible) for dialogue in dialogues if "request" in dialogue],
        summary=summary(scores),
        tables={section: table for section, table in score_tables(scores).items() if table},
        runs=[_run(run) for run in runs],
        codebooks=codebooks,
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
        "original": exhibit.original,
        "codec copy": exhibit.codec_copy,
        "generated from the true caption": exhibit.generated,
    }
    return {
        "title": exhibit.title,
        "recordings": [_recording(w, label, audible) for label, w in sounds.items() if w is not None],
        "facts": _facts(
            ("true caption", exhibit.caption, None),
            ("the model's caption of the original", exhibit.heard, exhibit.heard_right),
            ("the model's caption of what it generated", exhibit.reheard, exhibit.reheard_right),
        ),
    }


def _question(dialogue: Mapping, audible: bool) -> dict:
    right = dialogue.get("right")
    return {
        "asked": dialogue["question"],
        "reply": dialogue["reply"],
        "recordings": _recordings(dialogue, "the clip that is asked about", audible),
        "facts": _facts(
            ("the model's answer", dialogue.get("answer"), right),
            ("true answer", dialogue.get("truth"), None),
            ("deaf control: its answer about another clip", dialogue.get("deaf_answer"), None),
            ("ceiling: its answer with the true caption given", dialogue.get("ceiling_answer"), None),
        ),
    }


def _request(dialogue: Mapping, audible: bool) -> dict:
    return {
        "asked": dialogue["request"],
        "reply": dialogue["reply"],
        "recordings": _recordings(dialogue, "generated for the request", audible),
        "facts": _facts(
            ("caption of the clip that the request was made from", dialogue.get("truth"), None),
            ("the model's caption", dialogue.get("caption"), dialogue.get("caption_right")),
            ("what is heard in the generated audio", dialogue.get("heard"), dialogue.get("audio_right")),
        ),
    }


def _facts(*facts: tuple[str, str | None, bool | None]) -> list[tuple[str, str, bool | None]]:
    """(label, text, whether it is right), where there is a text; None is not judged."""
    return [(label, text or "(nothing)", right) for label, text, right in facts if text is not None]


def _recordings(dialogue: Mapping, label: str, audible: bool) -> list[Recording]:
    audio = dialogue.get("audio")
    return [_recording(audio, label, audible)] if audio is not None and len(audio) else []


def _recording(samples: np.ndarray, caption: str, audible: bool) -> Recording:
    seconds = f"{len(samples) / SAMPLE_RATE:.1f} s"
    return recording(samples, caption, mel_spectrogram, seconds, audible)
