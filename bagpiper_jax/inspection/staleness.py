"""Is a cache still what the cache job would make today? Compares its provenance with files; imports none of them."""

import dataclasses
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path

from bagpiper_jax import files, task_modules
from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.manifest import MANIFEST


@dataclasses.dataclass(frozen=True)
class Staleness:
    """What differs between a cache's provenance and today.

    Attributes:
        changed: the changes that would make the cache job cache anew, e.g. "code tasks.pretraining".
        unchecked: the parts that could not be compared, each with the reason.
        versions: libraries of another version, e.g. "numpy 2.4.6 then, 2.5.5 now"; they renew no cache.
    """

    changed: tuple[str, ...]
    unchecked: tuple[str, ...]
    versions: tuple[str, ...]


def staleness(cache: TaskCache, data_root: str, hash_of: Callable[[Path], str] = files.sha256) -> Staleness:
    """Compares code and input files; the contents of audio are left to the cache job.

    Args:
        data_root: holds the corpora, as in `CacheConfig.data_root`.
        hash_of: SHA-256 of a file; one that remembers saves reading what tasks share.
    """
    made_from = cache.manifest.get("provenance", {})
    changed, unchecked = [], [] if made_from.get("code") else ["code: the cache does not tell"]
    for what, then, path in [*_code(made_from), *_inputs(made_from, Path(data_root))]:
        if path is None:
            unchecked.append(_absence(what))
        elif hash_of(path) != then:
            changed.append(what)
    return Staleness(tuple(changed), tuple(unchecked), tuple(_versions(made_from)))


def absent_inputs(cache: TaskCache, data_root: str) -> list[str]:
    """The inputs of a cache that are not on this machine, as `Staleness.unchecked` names them; reads none of them."""
    made_from = cache.manifest.get("provenance", {})
    return [_absence(what) for what, _, path in _inputs(made_from, Path(data_root)) if path is None]


def _absence(what: str) -> str:
    return f"{what}: not on this machine"


def _code(made_from: dict):
    for module, then in made_from.get("code", {}).items():
        yield f"code {module}", then, module_file(module)


def module_file(module: str) -> Path | None:
    """The file of a module, found without importing it or its packages; None where there is none."""
    top, *rest = module.split(".")
    if top == task_modules.NAME:
        return _file_below([task_modules.location()], rest)
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest and not spec.submodule_search_locations:
        return Path(spec.origin) if spec.origin and Path(spec.origin).is_file() else None
    return _file_below(spec.submodule_search_locations or (), rest)


def _file_below(folders: Iterable[str | Path], rest: list[str]) -> Path | None:
    for root in folders:
        place = Path(root, *rest)
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path
    return None


def _inputs(made_from: dict, data_root: Path):
    """Names are paths below the data root: a corpus's manifest, or a code store's within a corpus.

    Earlier caches name a code store `<fingerprint>/manifest.json` alone: the corpus is that of the manifest beside it.
    """
    inputs = {name: then for name, then in made_from.get("inputs", {}).items() if name != "audio"}
    corpora = [Path(name).parent for name in inputs if Path(name).name == MANIFEST]
    for name, then in sorted(
        inputs.items(), key=lambda item: item[0].count("/")
    ):  # a corpus before its codes
        places = [data_root / name, *(data_root / corpus / "codes" / name for corpus in corpora)]
        yield f"input {name}", then, next((place for place in places if place.is_file()), None)


def _versions(made_from: dict):
    for library, then in made_from.get("versions", {}).items():
        try:
            now = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
        if now != then:
            yield f"{library} {then} then, {now} now"
