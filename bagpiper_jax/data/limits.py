"""What a mixture must keep to before a run may start."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class MixtureLimits:
    """Limits of a mixture in a run; shares lie in [0, 1]. `inspect_data --validate` and `plan` hold it to them,
    and `train` to `max_over_long`.

    Attributes:
        max_epochs: of any task. Text repeated about 40 times teaches nothing more (Muennighoff et al. 2023).
        max_over_long: share of a task's examples that exceed a row and are left out.
        max_rejected: share of a task's clips that were rejected when it was cached.
        min_packing: share of a row's slots that hold examples. Rows of 8,192 slots reach the default; short rows, and
            rows of few examples, need a lower one.
        allow_stale: accept caches that the cache job would make anew today.
    """

    max_epochs: float = 40.0
    max_over_long: float = 0.05
    max_rejected: float = 0.01
    min_packing: float = 0.995
    allow_stale: bool = False

    def __post_init__(self):
        shares = (self.max_over_long, self.max_rejected, self.min_packing)
        if not (self.max_epochs > 0 and all(0 <= share <= 1 for share in shares)):
            raise ValueError(f"max_epochs must be positive and shares lie in [0, 1], got {self}")
