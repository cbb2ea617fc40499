"""Builds the embedded corpus: plans, two processes that render, one manifest."""

import collections
import dataclasses
import functools
import importlib.metadata
import itertools
from pathlib import Path

import numpy as np

from bagpiper_jax import audio, captions, files
from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.assembly import Reject
from bagpiper_jax.corpora.embedded import documents, scenes, voice
from bagpiper_jax.corpora.user_audio import write_flac
from bagpiper_jax.manifest import MANIFEST, Clip
from bagpiper_jax.runs.progress import Underway

_LICENCE = {True: "CC0-1.0 (generated); voice Apache-2.0 (hibari-tts)", False: "CC0-1.0 (generated)"}
_SCENES_PER_JOB = 64
_MAX_REJECT_FRAC = 0.01
"""Scenes are made by code, so that more failures mean a fault of the program or the voice."""


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
    assembly.begin(directory, "embedded")
    bank = voice.record_bank()
    plans = draw_plans(config)
    _clear(directory)
    jobs = [plans[i : i + _SCENES_PER_JOB] for i in range(0, len(plans), _SCENES_PER_JOB)]
    work = functools.partial(render_scenes, bank=bank, directory=str(directory), seed=config.seed)
    done = []
    with Underway("rendering scenes", len(plans)) as underway:
        for _, made in assembly.parallel_map(work, jobs, config.workers):
            underway.add(len(made))
            done += made
    scenes_made = sorted((item for item in done if isinstance(item, Clip)), key=lambda clip: clip.id)
    rejects = [item for item in done if isinstance(item, Reject)]
    clips = scenes_made + documents.clips(config.text_documents, config.seed)
    return assembly.finish(directory, clips, rejects, _facts(config, plans), _MAX_REJECT_FRAC)


def _clear(directory: Path) -> None:
    """Takes an earlier manifest away, so that a build cut short is not taken for a corpus."""
    with files.explained(directory):
        (directory / MANIFEST).unlink(missing_ok=True)
        (directory / "audio").mkdir(parents=True, exist_ok=True)


def draw_plans(config: EmbeddedCorpusConfig) -> list[tuple[str, int, scenes.Plan]]:
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
    return [(split, i, plan) for split, plans in splits.items() for i, plan in enumerate(plans)]


def render_scenes(
    job: list[tuple[str, int, scenes.Plan]], bank: voice.Bank, directory: str, seed: int
) -> list[Clip | Reject]:
    """Renders, writes and describes some scenes; each draws from a generator of its own. Raises WriteError."""
    made: list[Clip | Reject] = []
    for split, index, plan in job:
        try:
            made.append(_render_scene(split, index, plan, bank, directory, seed))
        except Exception as error:
            made.append(Reject.by(assembly.fault_of(error), "embedded", 0, _name(split, index)))
    return made


def _name(split: str, index: int) -> str:
    return f"{split}-{index:05d}"


def _render_scene(split: str, index: int, plan: scenes.Plan, bank, directory: str, seed: int) -> Clip:
    rng = np.random.default_rng([seed, 1 + ("train", "validation", "test").index(split), index])
    samples, annotation = scenes.render(plan, bank, rng)
    name = _name(split, index)
    relative = f"audio/{name}.flac"
    if (peak := np.abs(samples).max()) > 1:
        raise AssertionError(f"scene {name} has a peak of {peak}; the mixer's levels are wrong")
    write_flac(Path(directory, relative), samples)
    return Clip(
        id=name,
        split=split,
        domain=scenes.domain(plan),
        audio=relative,
        duration=len(samples) / audio.SAMPLE_RATE,
        caption=captions.describe(annotation, "flowing", rng),
        annotation=annotation.to_json(),
        source="embedded",
        licence=_LICENCE[bool(annotation.turns)],
        group="|".join(event.kind for event in plan),
    )


def _facts(config: EmbeddedCorpusConfig, plans) -> dict:
    combinations = collections.defaultdict(set)
    for split, _, plan in plans:
        combinations[split].add(scenes.combination(plan))
    for first, second in itertools.combinations(combinations, 2):
        if shared := combinations[first] & combinations[second]:
            raise AssertionError(f"{len(shared)} combinations of {second} occur in {first}")
    packages = ("numpy", "soxr", "soundfile", "hibari-tts", "onnxruntime")
    return {
        "corpus": "embedded",
        "settings": {
            k: v for k, v in dataclasses.asdict(config).items() if k not in ("directory", "workers")
        },
        "versions": {package: importlib.metadata.version(package) for package in packages},
        "combinations": {split: len(values) for split, values in combinations.items()},
        "events": assembly.count(event.kind for _, _, plan in plans for event in plan),
        "scenes_by_event_count": assembly.count(str(len(plan)) for _, _, plan in plans),
    }
