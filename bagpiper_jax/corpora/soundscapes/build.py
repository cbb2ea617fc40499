"""Builds the corpus of soundscapes: plans, processes that render, one manifest."""

import collections
import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bagpiper_jax.corpora import assembly, rendering
from bagpiper_jax.corpora.assembly import Reject
from bagpiper_jax.corpora.rendering import Planned
from bagpiper_jax.corpora.soundscapes import mixing, plans, voices
from bagpiper_jax.corpora.soundscapes.plans import Scene
from bagpiper_jax.manifest import Clip

_SOURCE = "soundscapes"
_SCENES_PER_JOB = 32


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
    assembly.begin(directory, _SOURCE)
    voices.require()
    planned = draw_plans(config)
    work = functools.partial(render_scenes, directory=str(directory), seed=config.seed)
    clips, rejects = rendering.render_all(directory, planned, work, config.workers, _SCENES_PER_JOB)
    return assembly.finish(directory, clips, rejects, _facts(config, planned), rendering.MAX_REJECT_FRAC)


def draw_plans(config: SoundscapesCorpusConfig) -> list[Planned[Scene]]:
    """Every scene; neither layouts nor sentences of validation and test occur in training."""
    rng = np.random.default_rng([config.seed, 0])
    held_out = plans.held_out_scenes(rng, config.validation_scenes + config.test_scenes)
    splits = {
        "train": plans.training_scenes(rng, config.train_scenes),
        "validation": held_out[: config.validation_scenes],
        "test": held_out[config.validation_scenes :],
    }
    return rendering.placed(splits)


def render_scenes(job: Sequence[Planned[Scene]], directory: str, seed: int) -> list[Clip | Reject]:
    """Renders, writes and describes some scenes; each draws from a generator of its own. Raises WriteError."""
    return rendering.render_each(job, _SOURCE, seed, functools.partial(_render_scene, directory))


def _render_scene(directory: str, name: str, split: str, scene: Scene, rng: np.random.Generator) -> Clip:
    samples, annotation = mixing.render(scene, rng)
    group = json.dumps(scene.combination)
    return rendering.clip_of(
        directory, name, split, samples, annotation, rng, domain=scene.domain, source=_SOURCE, group=group
    )


def _facts(config: SoundscapesCorpusConfig, planned: list[Planned[Scene]]) -> dict:
    combinations = collections.defaultdict(set)
    for split, _, scene in planned:
        combinations[split].add(scene.combination)
    scenes = [scene for _, _, scene in planned]
    return {
        "corpus": _SOURCE,
        **rendering.made_with(config),
        "combinations": {split: len(values) for split, values in combinations.items()},
        "events": assembly.count(event.kind for scene in scenes for event in scene.events),
        "backgrounds": assembly.count(s.background.kind if s.background else "none" for s in scenes),
        "scenes_by_event_count": assembly.count(str(len(scene.events)) for scene in scenes),
        "scenes_with_overlap": sum(any(scene.over) for scene in scenes),
        "rooms": assembly.count(scene.room for scene in scenes),
        "noise": assembly.count(scene.noise for scene in scenes),
    }
