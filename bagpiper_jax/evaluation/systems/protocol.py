"""What a system under test is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Benchmark, Reply


class System(Protocol):
    """A system under test.

    Attributes:
        name: as tables print it.
        identity: all that its replies depend on besides what is asked, JSON-able; a part of the key of the reply cache.
        width: the number of questions that it answers at once.
        costs: whether a reply costs anything, so that it is kept; one that was recorded lies on the disk already.
        remarks: sentences that a reader of its scores must know.
    """

    name: str
    identity: dict[str, Any]
    width: int
    costs: bool
    remarks: list[str]

    async def answer(self, item: str, asked: Asked, sound: Path) -> Reply:
        """The reply to one item. What is wrong with one question is a fault of its reply, and not raised.

        Args:
            item: the item's id.
            asked: what it asks.
            sound: the WAV that is written where audio is wanted; the system may answer with another file.

        Raises:
            Explained, or what the device raised: no question can be answered any more.
        """
        ...


CANNOT_BEGIN = Reply(
    fault="cannot_begin", detail="only a run of ours can be made to begin its reply with a text"
)

Systems = Callable[[Benchmark], System]
"""The system as it answers one benchmark: recorded replies are read in the benchmark's own form."""
