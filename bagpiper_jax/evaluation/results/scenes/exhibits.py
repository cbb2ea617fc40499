"""What the page shows of the predictions of the benchmarks of scenes: clips and dialogues."""

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from bagpiper_jax import audio
from bagpiper_jax.evaluation.benchmarks.protocol import Score
from bagpiper_jax.evaluation.results.scenes.page import Exhibit
from bagpiper_jax.evaluation.running import predictions
from bagpiper_jax.models.codecs.protocol import Codec

Line = Mapping[str, Any]
Waveform = Float32[np.ndarray, " samples"]


def clips(folder: Path, count: int, codec: Codec | None) -> list[Exhibit]:
    """The first clips that can be read, of the predictions of `scenes`; with a codec beside their copies by it."""
    lines = {line["id"]: line for line in predictions.read(folder)}
    captioned = (line for id, line in lines.items() if line["asked"]["clip"])
    read = ((line, _sound(line["asked"]["clip"])) for line in captioned)
    shown = list(itertools.islice(((line, sound) for line, sound in read if sound is not None), count))
    sounded = [lines.get(f"sound_{line['record']['clip']}") for line, _ in shown]
    copied = [sound for (_, sound), line in zip(shown, sounded, strict=True) if line is not None]
    copies = iter(codec.decode(codec.encode(copied)) if codec is not None and copied else ())
    return [
        _exhibit(folder, line, sound, made, next(copies, None) if made is not None else None)
        for (line, sound), made in zip(shown, sounded, strict=True)
    ]


def _exhibit(folder: Path, line: Line, sound: Waveform, made: Line | None, copy: Waveform | None) -> Exhibit:
    record, reheard = line["record"], {} if made is None else made["verdicts"].get("kinds_in_order", {})
    return Exhibit(
        f"{record['clip']} · {record['domain']}", sound, record["caption"],
        heard=line["reply"]["text"], heard_right=_right(line, "kinds_in_order"),
        codec_copy=copy, generated=None if made is None else _reply_sound(folder, made),
        reheard=reheard.get("answer"), reheard_right=None if made is None else _right(made, "kinds_in_order"),
    )  # fmt: skip


def dialogues(folder: Path, count: int) -> list[dict]:
    """So many questions, and so many requests, of the predictions of `scene_dialogues`."""
    lines = {line["id"]: line for line in predictions.read(folder)}
    asked = [line for line in lines.values() if line["record"]["kind"] == "question"][:count]
    requested = [line for line in lines.values() if line["record"]["kind"] == "request"][:count]
    return [_question(line, lines) for line in asked] + [_request(folder, line) for line in requested]


def _question(line: Line, lines: Mapping[str, Line]) -> dict:
    clip = line["record"]["clip"]
    deaf, told = (lines.get(f"{kind}_{clip}") for kind in ("deaf", "told"))
    return {
        "question": line["asked"]["text"], "reply": line["reply"]["text"], "audio": _sound(line["asked"]["clip"]),
        "answer": _answer(line, "answers"), "truth": line["record"]["answer"], "right": _right(line, "answers"),
        "deaf_answer": deaf and _answer(deaf, "answers_deaf"),
        "ceiling_answer": told and _answer(told, "answers_told"),
    }  # fmt: skip


def _request(folder: Path, line: Line) -> dict:
    caption, heard = "request_caption_kinds_in_order", "request_audio_kinds_in_order"
    return {
        "request": line["asked"]["text"], "reply": line["reply"]["text"], "truth": line["record"]["caption"],
        "caption": _answer(line, caption), "caption_right": _right(line, caption),
        "heard": _answer(line, heard), "audio_right": _right(line, heard), "audio": _reply_sound(folder, line),
    }  # fmt: skip


def codebooks(scores: Iterable[Score]) -> list[dict[str, float]]:
    """Per codebook the share of codes that occur, 0 to 1, and the perplexity."""
    books: dict[str, dict[str, float]] = {}
    for score in scores:
        if score.group[0] == "codebook" and score.value is not None:
            share = score.name == "codes_used"
            name, value = ("used", score.value / 100) if share else (score.name, score.value)
            books.setdefault(score.group[1], {})[name] = value
    return list(books.values())


def _answer(line: Line, reading: str) -> str | None:
    return line["verdicts"].get(reading, {}).get("answer")


def _right(line: Line, reading: str) -> bool | None:
    value = line["verdicts"].get(reading, {}).get("value")
    return None if value is None else bool(value == 1)


def _reply_sound(folder: Path, line: Line) -> Waveform | None:
    return _sound(folder / line["reply"]["audio"]) if line["reply"]["audio"] else None


def _sound(path: str | Path | None) -> Waveform | None:
    """A sound as it is shown; None where it cannot be read."""
    if path is None:
        return None
    try:
        return audio.read(path, min_seconds=0)
    except audio.AudioError:
        return None
