"""The mixtures of the release, expressed over corpora of your own (reference sections 1.2 and 1.4).

The release divides each of its sources by type of audio and by direction, and repeats examples by a factor that
depends on both. Put the clips of a type in one corpus: `release_music`, `release_sound`, `release_speech`, documents
in `release_text`, and tuning dialogues in `release_understanding` and `release_generation`. Rates count examples:
a task's rate is its factor times its clips, so that all together repeat the release's epoch.
"""

import functools

import seqio

from tasks import pretraining, sft
from tasks.mixtures import add_task

FACTORS = {
    "music": {"audio_to_caption": 3.15, "caption_to_audio": 4.21},
    "sound": {"audio_to_caption": 3.17, "caption_to_audio": 4.27},
    "speech": {"audio_to_caption": 1.0, "caption_to_audio": 1.0},
    "text": {"text_only": 1.0},
}
"""Type of audio → direction → how often an example comes in one epoch of the release."""

_AUTHORS = {
    "audio_to_caption": pretraining.audio_to_caption,
    "caption_to_audio": pretraining.caption_to_audio,
    "text_only": pretraining.text_only,
}
_DIALOGUES = {"understanding": sft.understanding, "generation": sft.generation}


def repeated(factor: float, task: seqio.Task) -> float:
    """A rate: the task's training clips, each `factor` times."""
    return factor * task.num_input_examples("train")


def _register() -> None:
    rates = []
    for kind, factors in FACTORS.items():
        for direction, factor in factors.items():
            name = f"release_{kind}_{direction}"
            add_task(name, f"release_{kind}", _AUTHORS[direction])
            rates.append((name, functools.partial(repeated, factor)))
    seqio.MixtureRegistry.add("release_pretraining", rates)
    for purpose, author in _DIALOGUES.items():
        add_task(f"release_sft_{purpose}", f"release_{purpose}", author)
    tuning = [(f"release_sft_{purpose}", functools.partial(repeated, 1.0)) for purpose in _DIALOGUES]
    seqio.MixtureRegistry.add("release_sft", tuning)


_register()
