"""The fastest a step can be: whichever of computing, sending and reading memory takes longest, all else hidden, but for
collectives beside which the compiled program computes nothing."""

import dataclasses
from typing import Any

from jax.sharding import Mesh

from bagpiper_jax import parallel
from bagpiper_jax.runs.chips import Chip
from bagpiper_jax.sizing.collectives import Traffic
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.flops import StepFlops

DAY = 24 * 3600


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds per step that each resource needs at its published peak.

    Attributes:
        compute: executed FLOPs, recomputation included.
        hbm: state read and written once, gathered weights written and read, the loss's logits and tables.
        ici, dcn: the bytes that a chip sends within and between slices.
        waiting: those of `ici` that are sent while nothing is computed.
    """

    compute: float
    hbm: float
    ici: float
    dcn: float
    waiting: float = 0.0

    @property
    def step(self) -> float:
        return max(self._bounds.values())

    @property
    def bound_by(self) -> str:
        return max(self._bounds.items(), key=lambda item: item[1])[0]

    @property
    def _bounds(self) -> dict[str, float]:
        return {"compute": self.compute + self.waiting, "hbm": self.hbm, "ici": self.ici, "dcn": self.dcn}


def roofline(
    flops: StepFlops, traffic: Traffic, state_bytes: int, loss_bytes: int, chip: Chip, chips: int
) -> Roofline:
    """Bounds of one step.

    Args:
        flops: the operations of the step over all chips.
        traffic: the traffic of one chip.
        state_bytes: the bytes of parameters and optimizer on one chip.
        loss_bytes: the bytes that the loss moves, see `loss_bytes`.
        chip, chips: the kind of chip, and how many there are.
    """
    gathered = traffic.ici.get("all-gather", 0) + traffic.dcn.get("all-gather", 0)
    between = sum(traffic.dcn.values())
    return Roofline(
        compute=flops.executed / (chips * chip.flops),
        hbm=(2 * (state_bytes + gathered) + loss_bytes) / chip.hbm_bandwidth,
        ici=sum(traffic.ici.values()) / chip.ici_bandwidth,
        dcn=between / chip.dcn_bandwidth if between and chip.dcn_bandwidth else 0.0,
        waiting=sum(traffic.synchronous.values()) / chip.ici_bandwidth,
    )


def loss_bytes(train: TrainConfig, mesh: Mesh) -> int:
    """Bytes that one chip's loss reads and writes: a chunk of slots moves the head twice and its float32 gradient both
    ways, whatever its length, and each logit once in float32 and its gradient once in 16 bits, written and read."""
    slots = train.batch.slots // parallel.shards(mesh, "slots")
    rows = train.batch.rows // parallel.shards(mesh, "batch")
    ids = train.model.vocabulary.size // parallel.shards(mesh, "vocab")
    chunks = train.accumulation * -(-slots // train.loss.chunk)
    tables, logits = chunks * train.model.decoder.width * (2 * 2 + 2 * 4), rows * slots * 2 * (4 + 2)
    return ids * (tables + logits)


def speed(bound: Roofline, flops: StepFlops, train: TrainConfig, chip: Chip, chips: int) -> dict[str, Any]:
    """What the bound means for the run: MFU, tokens/s, days, chip-hours. Nothing real is faster."""
    slots = train.batch.rows * train.batch.slots
    peak, seconds = chips * chip.flops * bound.step, train.steps * bound.step
    full = flops.full / peak
    return {
        "roofline_seconds": {**dataclasses.asdict(bound), "step": bound.step, "bound_by": bound.bound_by},
        "mfu_bound": flops.causal / peak,
        # A causal kernel leaves out half of the pairs that this convention counts: beyond 1 it bounds nothing.
        "mfu_bound_full": full if full < 1 else None,
        "tokens_per_second": slots / bound.step,
        "tokens_per_second_per_chip": slots / bound.step / chips,
        "run": {
            "steps": train.steps,
            "tokens": train.steps * slots,
            "days": seconds / DAY,
            "chip_hours": chips * seconds / 3600,
        },
    }
