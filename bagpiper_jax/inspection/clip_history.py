"""What became of one clip: its example in every task, or why it was rejected, and the clip itself from its corpus."""

import dataclasses
import itertools
from pathlib import Path

from bagpiper_jax import strict
from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.data.loader import Loader
from bagpiper_jax.data.records import Record
from bagpiper_jax.manifest import MANIFEST, REJECTS, Clip, ManifestError, read_manifest
from bagpiper_jax.outcomes import RecordError


@dataclasses.dataclass(frozen=True)
class Fate:
    """A clip in one task: `record` number `index`, or `reject` (id, reason, detail), or neither.

    Attributes:
        task: the task's name.
        index: -1 without a record.
        fault: what is damaged: the clip's record, or records that can no longer say which clip they hold.
    """

    task: str
    index: int = -1
    record: Record | None = None
    reject: dict | None = None
    fault: str = ""


def find(loader: Loader, clip: str) -> list[Fate]:
    """Looks a clip up by id in every task of a mixture, reading records until it is found."""
    return [_fate(name, cache, clip) for name, cache in zip(loader.task_names, loader.caches, strict=True)]


def _fate(task: str, cache: TaskCache, clip: str) -> Fate:
    for reject in cache.rejects():
        if reject["id"] == clip:
            return Fate(task, reject=reject)
    damaged = []
    for index in range(len(cache)):
        try:
            if cache.read(index, audio=False).id != clip:
                continue
        except RecordError as error:
            damaged.append(str(error))
            continue
        try:
            return Fate(task, index, cache.read(index))
        except RecordError as error:
            return Fate(task, index, fault=f"its record {index} is damaged: {error}")
    if damaged:
        return Fate(
            task, fault=f"{len(damaged)} records are damaged and may hold it; the first: {damaged[0]}"
        )
    return Fate(task)


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a corpus knows of a clip: the clip, or the line of its own rejects, and the corpus's directory."""

    corpus: Path
    clip: Clip | None = None
    reject: dict | None = None

    @property
    def audio(self) -> Path | None:
        """The clip's audio, where it is at hand."""
        path = self.corpus / self.clip.audio if self.clip and self.clip.audio else None
        return path if path and path.is_file() else None


def origin(loader: Loader, clip: str, data_root: str) -> Origin | None:
    """Looks a clip up in the corpora that the caches were made from; None where none of them has it."""
    inputs = itertools.chain.from_iterable(c.manifest["provenance"].get("inputs", {}) for c in loader.caches)
    for name in dict.fromkeys(name for name in inputs if name.endswith(f"/{MANIFEST}")):
        if found := _origin(Path(data_root) / Path(name).parent, clip):
            return found
    return None


def _origin(corpus: Path, clip: str) -> Origin | None:
    try:
        found = next((each for each in read_manifest(corpus) if each.id == clip), None)
        if found:
            return Origin(corpus, found)
        with open(corpus / REJECTS, "rb") as file:
            rejects = (strict.loads(line) for line in file)
            found = next((reject for reject in rejects if reject.get("id") == clip), None)
        return Origin(corpus, reject=found) if found else None
    except (ManifestError, OSError, ValueError):
        return None  # the corpus is elsewhere by now; the cache still tells its part
