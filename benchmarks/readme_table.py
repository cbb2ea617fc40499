"""Prints README's table of scores: `python benchmarks/readme_table.py runs/evaluation/results.json`."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks.protocol import Score

ANSWERS, TOPICS = "Question → caption, reasoning, answer", "Answers by topic"
REQUESTS, CYCLE = "Request → reasoning, caption, audio", "Caption → audio → caption"
ROWS = (
    ("Audio → caption", "kinds_in_order", "audio → caption: event kinds in order"),
    ("Audio → caption", "event_count", "audio → caption: event count"),
    ("Audio → caption", "spoken_words", "audio → caption: spoken words"),
    (CYCLE, "cycle_kinds_in_order", "caption → audio → caption: kinds in order"),
    (CYCLE, "cycle_spoken_words", "caption → audio → caption: spoken words"),
    (ANSWERS, "sft_kinds_in_order", "tuned model: kinds in order in the caption of a reply"),
    (ANSWERS, "answers", "tuned model: answers to questions"),
    (TOPICS, None, "tuned model: answers about “{}”"),
    (REQUESTS, "request_caption_kinds_in_order", "tuned model: request → caption: kinds in order"),
    (REQUESTS, "request_caption_spoken_words", "tuned model: request → caption: spoken words"),
    (REQUESTS, "request_audio_kinds_in_order", "tuned model: request → audio: kinds in order"),
    (REQUESTS, "request_audio_spoken_words", "tuned model: request → audio: spoken words"),
    ("Validation loss", None, "validation loss, {}, nats per frame (baseline: unigram)"),
)
"""Section, score and how README names it; without a score every one of the section has its row."""

HEAD = "| held-out scenes | n | reached | baseline | deaf | ceiling | goal |\n|---|---|---|---|---|---|---|"


def table(results: dict) -> str:
    """The Markdown of `results.json`: a row for every score of `ROWS` that there is, whatever it says."""
    rows = (_row(label, score) for label, score in _listed(results["scores"]))
    return "\n".join([HEAD, *rows])


def _listed(scores: dict) -> Iterator[tuple[str, dict]]:
    for section, name, label in ROWS:
        found = scores.get(section, {})
        for each in [name] if name else sorted(found):
            if each in found:
                yield label.format(each.replace("_", " ")), found[each]


def _row(label: str, score: dict) -> str:
    low = score["value"] is not None and not Score(**score).beats(score["baseline"])
    numbers = [_number(score, score[name]) for name in ("value", "baseline", "deaf", "ceiling", "goal")]
    numbers[0] += " ▼" * low
    return f"| {' | '.join([label, str(score['expected'] or '–'), *numbers])} |"


def _number(score: dict, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1f} %" if score["unit"] == "%" else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default="runs/evaluation/results.json")
    print(table(json.loads(parser.parse_args().results.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
