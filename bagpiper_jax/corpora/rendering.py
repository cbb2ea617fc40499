"""What the corpora that code makes share: scenes rendered by processes, and the clip that a scene becomes."""

import dataclasses
import importlib.metadata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32

from bagpiper_jax import audio, captions, files
from bagpiper_jax.captions import AudioAnnotation
from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.assembly import Reject
from bagpiper_jax.corpora.user_audio import write_flac
from bagpiper_jax.manifest import MANIFEST, SPLITS, Clip
from bagpiper_jax.runs.progress import Underway

_Plan = TypeVar("_Plan")
Planned = tuple[str, int, _Plan]
"""Split, place in the split, plan of a scene."""

MAX_REJECT_FRAC = 0.01
"""Scenes are made by code, so that more failures mean a fault of the program or the voice."""

_LICENCE = {True: "CC0-1.0 (generated); voice Apache-2.0 (hibari-tts)", False: "CC0-1.0 (generated)"}
_PACKAGES = ("numpy", "soxr", "soundfile", "hibari-tts", "onnxruntime")
"""Those that the bytes of a scene depend on."""


def placed(splits: dict[str, Any]) -> list[Planned]:
    """The plans of every split, with their places."""
    return [(split, place, plan) for split, plans in splits.items() for place, plan in enumerate(plans)]


def render_all(
    directory: Path,
    planned: Sequence[Planned],
    work: Callable[[Sequence[Planned]], list[Clip | Reject]],
    workers: int,
    together: int,
) -> tuple[list[Clip], list[Reject]]:
    """All scenes in processes: the clips by their ids, and what could not be rendered. Raises WriteError.

    Args:
        directory: of the corpus; an earlier manifest is taken away, so that a build cut short is not taken for one.
        work: renders some scenes; it must be picklable.
        together: the number of scenes that a process takes at once.
    """
    with files.explained(directory):
        (directory / MANIFEST).unlink(missing_ok=True)
        (directory / "audio").mkdir(parents=True, exist_ok=True)
    jobs = [planned[i : i + together] for i in range(0, len(planned), together)]
    done: list[Clip | Reject] = []
    with Underway("rendering scenes", len(planned)) as underway:
        for _, made in assembly.parallel_map(work, jobs, workers):
            underway.add(len(made))
            done += made
    clips = sorted((item for item in done if isinstance(item, Clip)), key=lambda clip: clip.id)
    return clips, [item for item in done if isinstance(item, Reject)]


def render_each(
    job: Sequence[Planned],
    source: str,
    seed: int,
    render: Callable[[str, str, Any, np.random.Generator], Clip],
) -> list[Clip | Reject]:
    """Renders some scenes one by one; each draws from a generator of its own.

    Args:
        source: the corpus, for messages.
        seed: of the corpus.
        render: (name, split, plan, generator) → the clip.
    """
    made: list[Clip | Reject] = []
    for split, place, plan in job:
        name = f"{split}-{place:05d}"
        try:
            rng = np.random.default_rng([seed, 1 + SPLITS.index(split), place])
            made.append(render(name, split, plan, rng))
        except Exception as error:
            made.append(Reject.by(assembly.fault_of(error), source, 0, name))
    return made


def clip_of(
    directory: str,
    name: str,
    split: str,
    samples: Float32[np.ndarray, " samples"],
    annotation: AudioAnnotation,
    rng: np.random.Generator,
    **told: str,
) -> Clip:
    """Writes a scene and describes it.

    Args:
        rng: draws the words of the caption.
        told: `domain`, `source` and `group` of the clip.
    """
    relative = f"audio/{name}.flac"
    write_flac(Path(directory, relative), samples)
    return Clip(
        id=name,
        split=split,
        audio=relative,
        duration=len(samples) / audio.SAMPLE_RATE,
        caption=captions.describe(annotation, "flowing", rng),
        annotation=annotation.to_json(),
        licence=_LICENCE[bool(annotation.turns)],
        **told,
    )


def made_with(config: Any) -> dict:
    """Settings and versions that the bytes of a corpus follow from, for its facts."""
    settings = dataclasses.asdict(config)
    return {
        "settings": {name: x for name, x in settings.items() if name not in ("directory", "workers")},
        "versions": {package: importlib.metadata.version(package) for package in _PACKAGES},
    }
