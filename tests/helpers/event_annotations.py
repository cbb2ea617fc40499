"""Annotations of a few events, one a second."""

from bagpiper_jax.captions import AudioAnnotation, Music, SoundEvent, Speaker, Turn


def annotation(*kinds, words="one two"):
    """Events of one second each: "speech", "music" or a sound label."""
    times = [(float(i), i + 0.9) for i in range(len(kinds))]
    pairs = list(zip(kinds, times, strict=True))
    return AudioAnnotation(
        float(len(kinds)),
        tuple(Turn("a", *t, words) for k, t in pairs if k == "speech"),
        (Speaker("a", gender="male"),),
        tuple(SoundEvent(k, *t) for k, t in pairs if k not in ("speech", "music")),
        tuple(Music(*t, key="C major", instruments=("piano",)) for k, t in pairs if k == "music"),
    )
