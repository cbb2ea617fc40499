"""What audio cannot be used, and why."""

from bagpiper_jax.errors import Explained

REMEDIES = {
    "missing": "check the path",
    "unreadable": "check the path and its permissions",
    "corrupt": "re-encode the file from its original",
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

    def __reduce__(self):
        return type(self), (self.reason, self.path, self.detail)


class Damage(Exception):
    """What a container or a decoder finds wrong with a file; reading makes it an `AudioError` with the file's name."""


class Unrecognised(Exception):
    """The content is of no format that this decoder knows; another may know it."""


class TooLong(Exception):
    """The sound goes on beyond the accepted length.

    Attributes:
        seconds: how much there is, as far as it is known.
    """

    def __init__(self, seconds: float):
        super().__init__(f"{seconds:.2f} s")
        self.seconds = seconds
