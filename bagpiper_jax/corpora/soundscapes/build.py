"""Builds the corpus of soundscapes: plans, processes that render, one manifest."""

import collections
import dataclasses
import functools
import importlib.metadata
import json
from pathlib import Path

import numpy as np

from bagpiper_jax import audio, captions, files
from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.assembly import Reject
from bagpiper_jax.corpora.soundscapes import mixing, plans, voices
from bagpiper_jax.corpora.soundscapes.plans import Scene
from bagpiper_jax.corpora.user_audio import write_flac
from bagpiper_jax.manifest import MANIFEST, SPLITS, Clip
from bagpiper_jax.runs.progress import Underway

_LICENCE = {True: "CC0-1.0 (generated); voice Apache-2.0 (hibari-tts)", False: "CC0-1.0 (generated)"}
_SCENES_PER_JOB = 32
_MAX_REJECT_FRAC = 0.01
"""Scenes are made by code, so that more failures mean a fault of the program or the voice."""

Planned = tuple[str, int, Scene]
"""Split, place in the split, plan."""


@dataclasses.dataclass(frozen=True)
class SoundscapesCorpusConfig:
    """What to build.

    Attributes:
        directory: receives `manifest.jsonl`, `corpus.json` and `audio/`; an earlier build there is replaced.
        seed: same seed, same versions of numpy, soxr and hibari-tts, same machine: same bytes.
        train_scenes, validation_scenes, test_scenes: how many; the last two have layouts and sentences of their own.
        workers: processes that render.
    """

    directory: str = "corpora/soundscapes"
    seed: int = 0
    train_scenes: int = 2000
    validation_scenes: int = 64
    test_scenes: int = 128
    workers: int = 2


def build_soundscapes_corpus(config: SoundscapesCorpusConfig) -> Path:
    """Builds the corpus and returns its directory.

    Raises:
        VoiceError: hibari-tts is not installed.
        assembly.CorpusError: the directory holds a corpus of another kind.
    """
    directory = Path(config.directory)
    assembly.begin(directory, "soundscapes")
    voices.require()
    planned = draw_plans(config)
    with files.explained(directory):
        (directory / MANIFEST).unlink(missing_ok=True)  # a build cut short is not taken for a corpus
        (directory / "audio").mkdir(parents=True, exist_ok=True)
    jobs = [planned[i : i + _SCENES_PER_JOB] for i in range(0, len(planned), _SCENES_PER_JOB)]
    work = functools.partial(render_scenes, directory=str(directory), seed=config.seed)
    done: list[Clip | Reject] = []
    with Underway("rendering scenes", len(planned)) as underway:
        for _, made in assembly.parallel_map(work, jobs, config.workers):
            underway.add(len(made))
            done += made
    clips = sorted((item for item in done if isinstance(item, Clip)), key=lambda clip: clip.id)
    rejects = [item for item in done if isinstance(item, Reject)]
    return assembly.finish(directory, clips, rejects, _facts(config, planned), _MAX_REJECT_FRAC)


def draw_plans(config: SoundscapesCorpusConfig) -> list[Planned]:
    """Every scene; neither layouts nor sentences of validation and test occur in training."""
    rng = np.random.default_rng([config.seed, 0])
    held_out = plans.held_out_scenes(rng, config.validation_scenes + config.test_scenes)
    splits = {
        "train": plans.training_scenes(rng, config.train_scenes),
        "validation": held_out[: config.validation_scenes],
        "test": held_out[config.validation_scenes :],
    }
    return [(split, place, scene) for split, scenes in splits.items() for place, scene in enumerate(scenes)]


def render_scenes(job: list[Planned], directory: str, seed: int) -> list[Clip | Reject]:
    """Renders, writes and describes some scenes; each draws from a generator of its own. Raises WriteError."""
    made: list[Clip | Reject] = []
    for split, place, scene in job:
        name = f"{split}-{place:05d}"
        try:
            rng = np.random.default_rng([seed, 1 + SPLITS.index(split), place])
            made.append(_render_scene(name, split, scene, directory, rng))
        except Exception as error:
            made.append(Reject.by(assembly.fault_of(error), "soundscapes", 0, name))
    return made


def _render_scene(name: str, split: str, scene: Scene, directory: str, rng: np.random.Generator) -> Clip:
    samples, annotation = mixing.render(scene, rng)
    relative = f"audio/{name}.flac"
    write_flac(Path(directory, relative), samples)
    return Clip(
        id=name,
        split=split,
        domain=scene.domain,
        audio=relative,
        duration=len(samples) / audio.SAMPLE_RATE,
        caption=captions.describe(annotation, "flowing", rng),
        annotation=annotation.to_json(),
        source="soundscapes",
        licence=_LICENCE[bool(annotation.turns)],
        group=json.dumps(scene.combination),
    )


def _facts(config: SoundscapesCorpusConfig, planned: list[Planned]) -> dict:
    packages = ("numpy", "soxr", "soundfile", "hibari-tts", "onnxruntime")
    combinations = collections.defaultdict(set)
    for split, _, scene in planned:
        combinations[split].add(scene.combination)
    scenes = [scene for _, _, scene in planned]
    return {
        "corpus": "soundscapes",
        "settings": {
            k: v for k, v in dataclasses.asdict(config).items() if k not in ("directory", "workers")
        },
        "versions": {package: importlib.metadata.version(package) for package in packages},
        "combinations": {split: len(values) for split, values in combinations.items()},
        "events": assembly.count(event.kind for scene in scenes for event in scene.events),
        "backgrounds": assembly.count(s.background.kind if s.background else "none" for s in scenes),
        "scenes_by_event_count": assembly.count(str(len(scene.events)) for scene in scenes),
        "scenes_with_overlap": sum(any(scene.over) for scene in scenes),
        "rooms": assembly.count(scene.room for scene in scenes),
        "noise": assembly.count(scene.noise for scene in scenes),
    }
