"""A small corpus of scenes, and a model whose every reply is known: what it says follows from what it is asked."""

import asyncio
import zlib
from pathlib import Path

import numpy as np
from event_annotations import annotation

from bagpiper_jax import audio
from bagpiper_jax.captions import describe
from bagpiper_jax.evaluation.benchmarks.protocol import Reply
from bagpiper_jax.evaluation.evaluators.codec import CodecEvaluator
from bagpiper_jax.manifest import Clip, write_manifest

KINDS = ("dog bark", "speech"), ("music",), ("rain",)
_ANSWERS = ("Two.", "One.", "C major.", "Yes.")


def write_scenes(directory: Path, count: int = 6) -> Path:
    """So many clips of one or two seconds, the first half of them held out."""
    directory.mkdir(parents=True, exist_ok=True)
    rng, clips = np.random.default_rng(0), []
    for i in range(count):
        told, name = annotation(*KINDS[i % 3]), f"clip{i}.wav"
        wave = 0.1 * rng.normal(size=int(16000 * told.duration)).astype(np.float32)
        audio.write(directory / name, wave)
        split = "test" if i < count // 2 else "train"
        clips.append(
            Clip(f"c{i}", split, "mixed", name, told.duration, describe(told), annotation=told.to_json())
        )
    write_manifest(directory, clips)
    return directory


def caption(wave: np.ndarray) -> str:
    """What the model says of a sound: often of the right kinds, seldom all right."""
    return describe(annotation(*_drawn(KINDS, _told(wave))))


def answer(wave: np.ndarray, question: str, begun: str = "") -> str:
    """Its reply to a question: the caption, unless it is begun with one, then reasoning and an answer."""
    said = _drawn(_ANSWERS, f"{_told(wave)} | {question} | {begun}")
    return f"{begun or caption(wave)}\n\n<think>\n- x\n</think>\n\n{said}"


def plan(request: str, begun: str = "") -> str:
    """Its text before the sound of a request."""
    kinds = _drawn(KINDS, f"plan | {request}")
    return begun or f"<think>\n1. x\n</think>\n\n{describe(annotation(*kinds))}"


def sound(text: str) -> np.ndarray:
    """The sound that it makes of a text, whose samples are those of a WAV."""
    rng = np.random.default_rng(zlib.crc32(text.encode()))
    return np.round(rng.uniform(-9000, 9000, rng.integers(8, 40) * 400)).astype(np.float32) / 32768


def _told(wave: np.ndarray) -> str:
    """A sound in words that a file of 16 bits keeps: its length, and where it is loudest."""
    return f"{len(wave)} samples, {np.argmax(np.abs(wave))}"


def _drawn(choices, told: str):
    return choices[zlib.crc32(told.encode()) % len(choices)]


class KnownSystem:
    """A `System` of that model. `asked` has the ids of the items that it was asked."""

    name, width, costs, remarks = "known", 8, True, ()

    def __init__(self):
        self.identity, self.asked = {"kind": "known"}, []

    async def answer(self, item, asked, path):
        self.asked.append(item)
        return await asyncio.to_thread(reply_to, item, asked, path)


def reply_to(item: str, asked, path: Path) -> Reply:
    """Its reply to an item of a benchmark of scenes; a sound is written to the path."""
    if asked.wants == "text":
        wave = audio.read(asked.clip)
        return Reply(answer(wave, asked.text, asked.begun) if asked.text else caption(wave))
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, sound(asked.text + asked.begun))
    return Reply("" if item.startswith("sound") else plan(asked.text, asked.begun), path)


class KnownCaptioner:
    """The evaluator `captioner` that says what that model says."""

    name, version = "captioner_known", "0"

    def captions(self, sounds):
        return [caption(sound) for sound in sounds]


class _KnownCodec:
    """Decodes to another sound for each number of frames."""

    sample_rate, hop, codebooks, fingerprint = 16_000, 320, (8, 8), "0"

    def encode(self, waves):
        frames = [np.arange(len(wave) // 320) for wave in waves]
        return [np.stack([frame % 8, frame % 3], axis=1) for frame in frames]

    def decode(self, codes):
        return [sound(str(len(code))) for code in codes]


JUDGES = {"captioner": KnownCaptioner(), "codec": CodecEvaluator("codec_known", _KnownCodec())}
"""The evaluators of scenes by name."""
