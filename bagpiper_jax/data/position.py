"""Where a run stands in its data, as its checkpoints keep it."""

import dataclasses

from bagpiper_jax import typed
from bagpiper_jax.errors import Explained


class ResumeError(Explained, ValueError):
    """The data of a checkpoint and of this run differ; the message names what."""


@dataclasses.dataclass(frozen=True)
class Era:
    """A time in which the run's data did not change.

    Attributes:
        identity: of the loader that served it, name → value.
        row, window: where the next era begins; None while this one has not ended.
    """

    identity: dict
    row: int | None = None
    window: int | None = None


@dataclasses.dataclass(frozen=True)
class Position:
    """The place before a step.

    Attributes:
        step: the next one.
        row: its first row, among all rows of the run.
        first_row, window: first row and number of the plan's window that holds `row`.
        identity: of the loader, name → value: what must be equal to go on.
        eras: before the present one, oldest first.
    """

    step: int
    row: int
    first_row: int
    window: int
    identity: dict
    eras: tuple[Era, ...] = ()

    def to_json(self) -> dict:
        """What `from_json` reads; without eras where there are none."""
        body = dataclasses.asdict(self)
        eras = [{name: value for name, value in era.items() if value is not None} for era in body.pop("eras")]
        return body | ({"eras": eras} if eras else {})

    @classmethod
    def from_json(cls, body: dict) -> "Position":
        """Raises ResumeError: it is no position."""
        try:
            return typed.from_json(cls, body)
        except TypeError as error:
            raise ResumeError(
                f"the checkpoint holds no position in the data ({error}): {str(body)[:200]}"
            ) from error
