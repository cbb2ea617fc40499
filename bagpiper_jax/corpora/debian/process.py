"""One recording to one clip: load, screen, measure, annotate, write. Runs in worker processes."""

import dataclasses
import math
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from bagpiper_jax import audio
from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.debian import scores
from bagpiper_jax.corpora.debian.annotate import annotate
from bagpiper_jax.corpora.debian.measure import measure
from bagpiper_jax.corpora.debian.recordings import Recording
from bagpiper_jax.corpora.user_audio import LONGEST_RECORDING, write_flac
from bagpiper_jax.outcomes import RecordError

_SILENT = -60.0  # dBFS of the active frames


@dataclasses.dataclass(frozen=True)
class Assignment:
    """What a worker needs for one clip."""

    recording: Recording
    target: str
    soundfont: str
    min_seconds: float
    max_seconds: float
    seed: int


def process(assignment: Assignment) -> dict:
    """Makes the clip: {"seconds", "annotation"}, or {"reason", "detail", "remedy"} where it is no use.

    Raises:
        WriteError: the disk refuses the clip.
    """
    try:
        rendering = None
        if assignment.recording.kind == "score":
            rendering = scores.render(assignment.recording, assignment.soundfont, assignment.seed)
            samples = rendering.samples
        else:
            samples = load(assignment.recording)
        measured = _screened(samples, assignment)
        annotation = annotate(assignment.recording, measured, rendering).to_json()
        write_flac(Path(assignment.target), samples / max(1.0, float(np.abs(samples).max())))
        return {"seconds": round(len(samples) / audio.SAMPLE_RATE, 6), "annotation": annotation}
    except Exception as error:
        fault = assembly.fault_of(error)
        detail = str(error) if isinstance(error, audio.AudioError) else fault.detail
        return {"reason": fault.reason, "detail": detail, "remedy": fault.remedy}


def load(recording: Recording) -> Float32[np.ndarray, "n"]:
    """The recording, or the stretch of it that is wanted, as the mean of its channels at 16 kHz.

    Raises:
        AudioError: the file cannot be decoded.
    """
    if recording.path.endswith(".g722"):
        return audio.read(recording.path, max_seconds=LONGEST_RECORDING, min_seconds=0.0)
    import soundfile

    try:
        with soundfile.SoundFile(recording.path) as file:
            wanted = round(recording.seconds * file.samplerate) or file.frames
            file.seek(math.floor(recording.start * max(0, file.frames - wanted)))
            samples = file.read(wanted, dtype="float32", always_2d=True).mean(axis=1)
            return audio.resample(samples, file.samplerate, audio.SAMPLE_RATE)
    except soundfile.LibsndfileError as error:
        raise audio.AudioError("corrupt", recording.path, str(error)) from error


def _screened(samples: np.ndarray, assignment: Assignment):
    """The measurements, unless the clip is silent or of a length that is no use."""
    seconds = len(samples) / audio.SAMPLE_RATE
    path = assignment.recording.path
    if seconds < assignment.min_seconds:
        raise audio.AudioError("too_short", path, f"{seconds:.3f} s is below {assignment.min_seconds:g} s")
    if seconds > assignment.max_seconds:
        raise audio.AudioError("too_long", path, f"{seconds:.1f} s exceeds {assignment.max_seconds:g} s")
    measured = measure(samples)
    if measured.level < _SILENT:
        raise RecordError(
            "silent_audio", f"{path}: {measured.level:.0f} dBFS where loudest", "none; it is left out"
        )
    return measured
