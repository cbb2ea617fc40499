"""The lock: what a mixture is, resolved. A trainer reads this JSON and never SeqIO.

{"format": 1, "mixture": "embedded_pretraining", "rate_unit": "examples",
 "tokenizer": {"fingerprint": …, "size": …}, "codec": {"fingerprint": …, "codebook_size": …, "streams": 8},
 "splits": {"train": [{"task": …, "rate": 1.0, "path": …, "manifest_sha256": …, "records": …}, …]}}
"""

import dataclasses
import json
import os

from bagpiper_jax import buckets, files, strict, typed
from bagpiper_jax.data.cache import CacheError, TaskCache
from bagpiper_jax.data.rates import RATE_UNITS

FORMAT = 1
_LEAST = {"tokenizer_size": 0, "codebook_size": 0, "num_streams": 1, "max_slots": 0}
_MOST = 2**31 - 1  # token ids are int32


@dataclasses.dataclass(frozen=True)
class LockedTask:
    """One task of a mixture.

    Attributes:
        task, rate: SeqIO name and resolved rate.
        path: cache directory, relative to the lock.
        manifest_sha256: of its manifest, which holds the hashes of everything else.
        records: how many.
        direction: name of the direction of most records.
    """

    task: str
    rate: float
    path: str
    manifest_sha256: str
    records: int
    direction: str

    def __post_init__(self):
        if fault := typed.mistyped(self):
            raise ValueError(f"task {str(self.task)[:80]}: {fault}")
        if self.rate <= 0 or self.records < 0:
            raise ValueError(f"task {self.task}: rate {self.rate} or records {self.records} is not positive")


@dataclasses.dataclass(frozen=True)
class Lock:
    """A resolved mixture; fields as in the module's docstring.

    Attributes:
        max_slots: longest rendered example that was cached.
        system_prompt: that opens this mixture's generation dialogues; "" without one, or without such dialogues.
    """

    mixture: str
    rate_unit: str
    tokenizer_fingerprint: str
    tokenizer_size: int
    codec_fingerprint: str
    codebook_size: int
    num_streams: int
    max_slots: int
    splits: dict[str, tuple[LockedTask, ...]]
    system_prompt: str = ""

    def __post_init__(self):
        if fault := typed.mistyped(self):
            raise ValueError(fault)
        if self.rate_unit not in RATE_UNITS:
            raise ValueError(f"rate_unit must be one of {', '.join(RATE_UNITS)}, got {self.rate_unit!r}")
        for name, least in _LEAST.items():
            if not least <= (size := getattr(self, name)) <= _MOST:
                raise ValueError(f"{name} must be {least} to {_MOST}, got {size}")

    def tasks(self, split: str) -> tuple[LockedTask, ...]:
        if not self.splits.get(split):
            known = ", ".join(sorted(self.splits)) or "none"
            raise CacheError(
                f"mixture {self.mixture} has no examples in split {split!r}; cached splits: {known}"
            )
        return self.splits[split]

    def require(self, tokenizer: str | None, codec: str | None) -> None:
        """Refuses a run with another tokenizer or codec. None means that the run does not care."""
        for what, cached, wanted in (
            ("tokenizer", self.tokenizer_fingerprint, tokenizer),
            ("codec", self.codec_fingerprint, codec),
        ):
            if wanted is not None and cached and wanted != cached:
                raise CacheError(
                    f"mixture {self.mixture} was cached with {what} {cached}, this run uses {wanted}; "
                    f"run cache_tasks with this {what}, or give the run the other one"
                )


def write_lock(path: str | os.PathLike, lock: Lock) -> None:
    """Writes a lock atomically."""
    body = {"format": FORMAT, **dataclasses.asdict(lock)}
    files.replace(path, json.dumps(body, indent=1, sort_keys=True) + "\n")


def read_lock(path: str | os.PathLike) -> Lock:
    """Reads a lock. Raises CacheError: missing, no lock, or of another format."""
    try:
        body = strict.loads(buckets.read(path))
        if (version := body.pop("format")) != FORMAT or isinstance(version, bool):
            raise CacheError(f"{path} has another lock format than {FORMAT}; run cache_tasks again")
        splits = {s: tuple(LockedTask(**t) for t in tasks) for s, tasks in body.pop("splits").items()}
        return Lock(splits=splits, **body)
    except FileNotFoundError:
        raise CacheError(f"{path} does not exist; run cache_tasks to make it") from None
    except CacheError:
        raise
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror}; name the lock of a mixture") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CacheError(f"{path} is not a mixture lock: {error}; run cache_tasks again") from error


def open_caches(path: str | os.PathLike, lock: Lock, split: str) -> list[TaskCache]:
    """Opens the caches of a split and checks them against the lock. Raises CacheError."""
    caches = []
    for task in lock.tasks(split):
        cache = TaskCache(buckets.beside(path, task.path))
        if cache.manifest_sha256 != task.manifest_sha256:
            raise CacheError(
                f"the cache of {task.task} in {cache.where} is not the one {path} was made from; "
                "run cache_tasks again"
            )
        cache.check_files()
        caches.append(cache)
    return caches
