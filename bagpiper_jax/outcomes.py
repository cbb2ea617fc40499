"""What becomes of one record: it is kept, skipped, rejected, or ends the job.

Readers and authors raise `RecordError`. Whoever holds the boundary around one record makes an `Outcome` of whatever was
raised, and everyone behind it counts and shows outcomes. Where one has to pass through tf.data, which knows no objects,
it is encoded here and decoded here.
"""

import dataclasses
import json
from collections.abc import Mapping

from bagpiper_jax.errors import Explained


class RecordError(Explained, ValueError):
    """One record that cannot be used.

    Attributes:
        reason: a short name to count by, e.g. `corrupt_audio`.
        detail: what was found.
        remedy: what the owner of the data can do.
    """

    def __init__(self, reason: str, detail: str = "", remedy: str = ""):
        super().__init__(reason, detail, remedy)
        self.reason, self.detail, self.remedy = reason, detail, remedy

    def __str__(self) -> str:
        said = f"{self.reason}: {self.detail}" if self.detail else self.reason
        return f"{said} ({self.remedy})" if self.remedy else said


@dataclasses.dataclass(frozen=True)
class Kept:
    """The record is used."""

    @property
    def counted_as(self) -> str:
        return "ok"


@dataclasses.dataclass(frozen=True)
class Skipped:
    """The task is not about this record; `reason` is a short name to count by."""

    reason: str

    @property
    def counted_as(self) -> str:
        return f"skipped {self.reason}"


@dataclasses.dataclass(frozen=True)
class Rejected:
    """Something is wrong with the record: see `RecordError`.

    Attributes:
        place: file and record, as far as known: `train-0.tar: rain/0001`.
    """

    reason: str
    detail: str = ""
    remedy: str = ""
    place: str = ""

    @classmethod
    def by(cls, error: Exception, place: str = "") -> "Rejected":
        """For an error of any kind, which is counted by its type unless it has a reason of its own."""
        if isinstance(error, RecordError):
            return cls(error.reason, error.detail, error.remedy, place)
        return cls(f"error_{type(error).__name__}", str(error), "", place)

    @property
    def counted_as(self) -> str:
        return f"{_REJECTED}{self.reason}"

    def __str__(self) -> str:
        """Place, detail and remedy."""
        said = ": ".join(part for part in (self.place, self.detail) if part) or self.reason
        return f"{said} ({self.remedy})" if self.remedy else said


@dataclasses.dataclass(frozen=True)
class Fatal:
    """No record can succeed: the job ends with this explanation."""

    explanation: str

    @property
    def counted_as(self) -> str:
        return "fatal"


Outcome = Kept | Skipped | Rejected | Fatal

_REJECTED = "rejected "
_KINDS = {kind.__name__: kind for kind in (Kept, Skipped, Rejected, Fatal)}


def encode(outcome: Outcome) -> bytes:
    """Bytes for tf.data; those of `Kept` are empty, as are those of examples that tell no outcome."""
    if isinstance(outcome, Kept):
        return b""
    fields = [type(outcome).__name__, *dataclasses.astuple(outcome)]
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")


def decode(data: bytes) -> Outcome:
    """Inverts `encode`. Raises ValueError: these are no outcome's bytes."""
    if not data:
        return Kept()
    try:
        kind, *fields = json.loads(data)
        return _KINDS[kind](*fields)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"no outcome: {data[:80]!r}") from error


def rejected(counts: Mapping[str, int]) -> dict[str, int]:
    """Reason → rejected records, of counts by `counted_as`."""
    return {name.removeprefix(_REJECTED): n for name, n in counts.items() if name.startswith(_REJECTED)}
