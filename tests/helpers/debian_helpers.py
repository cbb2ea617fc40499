"""Sounds and recordings for tests of the Debian corpus."""

from pathlib import Path

import numpy as np

from bagpiper_jax.corpora.debian.recordings import Recording


def tone(seconds: float, frequency: float = 440.0, rate: int = 16_000) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def voice(seconds: float, pitch: float) -> np.ndarray:
    """Harmonics with a weak fundamental and a strong second one: what fools plain autocorrelation and peaks."""
    strengths = (0.1, 1.0, 0.7, 0.5, 0.4, 0.3)
    wave = sum(a * tone(seconds, pitch * (k + 1)) for k, a in enumerate(strengths))
    return (0.3 * wave).astype(np.float32)


def write_g722(path: Path, samples: np.ndarray) -> None:
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="g722") as container:
        stream = container.add_stream("g722", rate=16_000, layout="mono")
        for start in range(0, len(samples) // 320 * 320, 320):
            pcm = (samples[start : start + 320] * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
            frame.sample_rate = 16_000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def recording(record_id: str = "x", kind: str = "sound", path: str = "", **fields) -> Recording:
    known = {"label": "bell", "group": "g", "stratum": "s", "source": "p", "licence": "CC0-1.0"}
    return Recording(record_id, kind, path, **{**known, **fields})
