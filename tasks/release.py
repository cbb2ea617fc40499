"""The mixtures of the release, expressed over corpora of your own.

See docs/reference.md, Pre-training data and Tuning dialogues.

The release divides each of its sources by type of audio and by direction, so that both can be repeated. Put the clips
of a type in one corpus: `release_music`, `release_sound`, `release_speech`, documents in `release_text`, and tuning
dialogues in `release_understanding` and `release_generation`. How often each comes is for `gin/mixtures/release.gin` to
say; for one corpus of mixed domains there is `<corpus>_pretraining_by_domain` (`tasks.mixtures`).
"""

import seqio

from tasks import pretraining, sft
from tasks.mixtures import add_task

AUTHORS = {
    **{
        f"{kind}_{direction.__name__}": direction
        for kind in ("music", "sound", "speech")
        for direction in (pretraining.audio_to_caption, pretraining.caption_to_audio)
    },
    "text_text_only": pretraining.text_only,
}
DIALOGUES = {"understanding": sft.understanding, "generation": sft.generation}


def _register() -> None:
    for purpose, author in AUTHORS.items():
        add_task(f"release_{purpose}", f"release_{purpose.split('_')[0]}", author)
    seqio.MixtureRegistry.add("release_pretraining", [(f"release_{purpose}", 1.0) for purpose in AUTHORS])
    for purpose, author in DIALOGUES.items():
        add_task(f"release_sft_{purpose}", f"release_{purpose}", author)
    seqio.MixtureRegistry.add("release_sft", [(f"release_sft_{purpose}", 1.0) for purpose in DIALOGUES])


_register()
