"""Builds the embedded corpus: plans, two processes that render, one manifest."""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bagpiper_jax.corpora import assembly, rendering
from bagpiper_jax.corpora.assembly import Reject
from bagpiper_jax.corpora.embedded import documents, scenes, voice
from bagpiper_jax.corpora.rendering import Planned
from bagpiper_jax.manifest import Clip

_SOURCE = "embedded"
_SCENES_PER_JOB = 64


@dataclasses.dataclass(frozen=True)
class EmbeddedCorpusConfig:
    """What to build.

    Attributes:
        directory: receives `manifest.jsonl`, `corpus.json` and `audio/`; an earlier build there is replaced.
        seed: same seed, same versions of numpy, soxr and hibari-tts, same machine: same bytes.
        train_scenes, validation_scenes, test_scenes: how many; the last two are new combinations of events.
        train_words: further training scenes, each of one spoken word: speech takes longest to learn.
        text_documents: text-only records, a tenth of them for validation.
        workers: processes that render.
        event_counts: shares of scenes with 1, 2, 3 and 4 events; they sum to 1.
    """

    directory: str = "corpora/embedded"
    seed: int = 0
    train_scenes: int = 2000
    validation_scenes: int = 64
    test_scenes: int = 128
    train_words: int = 0
    text_documents: int = 400
    workers: int = 2
    event_counts: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)

    def __post_init__(self):
        shares = self.event_counts
        if len(shares) != scenes.MAX_EVENTS or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"event_counts must be {scenes.MAX_EVENTS} shares that sum to 1, got {shares}")


def build_embedded_corpus(config: EmbeddedCorpusConfig) -> Path:
    """Builds the corpus and returns its directory.

    Raises:
        voice.VoiceError: hibari-tts is not installed.
        assembly.CorpusError: the directory holds a corpus of another kind.
    """
    directory = Path(config.directory)
    assembly.begin(directory, _SOURCE)
    bank = voice.record_bank()
    plans = draw_plans(config)
    work = functools.partial(render_scenes, bank=bank, directory=str(directory), seed=config.seed)
    scenes_made, rejects = rendering.render_all(directory, plans, work, config.workers, _SCENES_PER_JOB)
    clips = scenes_made + documents.clips(config.text_documents, config.seed)
    return assembly.finish(directory, clips, rejects, _facts(config, plans), rendering.MAX_REJECT_FRAC)


def draw_plans(config: EmbeddedCorpusConfig) -> list[Planned[scenes.Plan]]:
    """(split, index, plan) of every scene; no combination of validation or test occurs in training."""
    rng = np.random.default_rng([config.seed, 0])
    counts = config.event_counts
    held_out = scenes.held_out_plans(rng, config.validation_scenes + config.test_scenes, counts)
    train = scenes.training_plans(rng, config.train_scenes, counts, held_out)
    words = scenes.word_plans(rng, config.train_words, held_out)
    splits = {
        "train": itertools.chain(train, words),
        "validation": held_out[: config.validation_scenes],
        "test": held_out[config.validation_scenes :],
    }
    return rendering.placed(splits)


def render_scenes(
    job: Sequence[Planned[scenes.Plan]], bank: voice.Bank, directory: str, seed: int
) -> list[Clip | Reject]:
    """Renders, writes and describes some scenes; each draws from a generator of its own. Raises WriteError."""
    return rendering.render_each(job, _SOURCE, seed, functools.partial(_render_scene, bank, directory))


def _render_scene(
    bank: voice.Bank, directory: str, name: str, split: str, plan: scenes.Plan, rng: np.random.Generator
) -> Clip:
    samples, annotation = scenes.render(plan, bank, rng)
    if (peak := np.abs(samples).max()) > 1:
        raise AssertionError(f"scene {name} has a peak of {peak}; the mixer's levels are wrong")
    group = "|".join(event.kind for event in plan)
    return rendering.clip_of(
        directory,
        name,
        split,
        samples,
        annotation,
        rng,
        domain=scenes.domain(plan),
        source=_SOURCE,
        group=group,
    )


def _facts(config: EmbeddedCorpusConfig, plans) -> dict:
    combinations = collections.defaultdict(set)
    for split, _, plan in plans:
        combinations[split].add(scenes.combination(plan))
    for first, second in itertools.combinations(combinations, 2):
        if shared := combinations[first] & combinations[second]:
            raise AssertionError(f"{len(shared)} combinations of {second} occur in {first}")
    return {
        "corpus": _SOURCE,
        **rendering.made_with(config),
        "combinations": {split: len(values) for split, values in combinations.items()},
        "events": assembly.count(event.kind for _, _, plan in plans for event in plan),
        "scenes_by_event_count": assembly.count(str(len(plan)) for _, _, plan in plans),
    }
