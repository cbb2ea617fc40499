"""What audio cannot be used, and why."""

from bagpiper_jax.errors import Explained

REMEDIES = {
    "missing": "check the path",
    "corrupt": "re-encode the file, or install `av` for containers that only ffmpeg reads",
    "empty": "remove the record",
    "not_finite": "remove NaN and infinity from the samples",
    "too_long": "cut the recording into pieces",
    "too_short": "remove the record, or pad it with silence",
}


class AudioError(Explained, ValueError):
    """Audio that cannot be used.

    Attributes:
        reason: one of `REMEDIES`, for counting rejections.
        path: the file, or "<bytes>".
        detail: a description of what was found.
    """

    def __init__(self, reason: str, path: object, detail: str):
        super().__init__(f"{path}: {reason}: {detail}; {REMEDIES[reason]}")
        self.reason, self.path, self.detail = reason, str(path), detail


def require_length(seconds: float, max_seconds: float, name: str) -> None:
    """Raises AudioError `too_long`."""
    if seconds > max_seconds:
        raise AudioError("too_long", name, f"{seconds:.2f} s exceeds {max_seconds:g} s")
