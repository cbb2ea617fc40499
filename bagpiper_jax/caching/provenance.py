"""What a cache was made from, as hashes: equal provenance, equal cache."""

import functools
import hashlib
import importlib.metadata
import inspect
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from bagpiper_jax import files

# Packages whose code is ours: a preprocessor's helpers are followed through them, not into libraries.
_OWN = ("bagpiper_jax", "tasks")
_LIBRARIES = ("numpy", "seqio", "tensorflow", "array_record", "soundfile", "tokenizers")


def code_hashes(task) -> dict[str, str]:
    """Module → sha256 of the files that define a source and its preprocessors, and of all own modules they import."""
    read_by = getattr(task.source, "functions", list)()
    modules = {sys.modules[f.__module__] for f in [*_functions(task.preprocessors), *read_by]}
    modules.add(sys.modules[type(task.source).__module__])
    waiting, seen = list(modules), set()
    while waiting:
        module = waiting.pop()
        path = getattr(module, "__file__", None)
        if module in seen or not path:
            continue
        if module.__name__.split(".")[0] not in _OWN and module not in modules:
            continue
        seen.add(module)
        waiting += [*_imported(module), *_packages(module)]
    return {m.__name__: files.sha256(m.__file__) for m in sorted(seen, key=lambda m: m.__name__)}


def _imported(module) -> Iterable:
    for value in vars(module).values():
        if inspect.ismodule(value):
            yield value
        elif inspect.isfunction(value) or inspect.isclass(value):
            owner = sys.modules.get(value.__module__)
            if owner is not None:
                yield owner


def _packages(module) -> Iterable:
    """The packages that a module lies in, but for the topmost: what they give may have been imported from them."""
    above = module.__name__.split(".")[:-1]
    while len(above) > 1:
        yield sys.modules.get(".".join(above))
        above.pop()


def _functions(values) -> Iterable:
    """The functions behind preprocessors: partials are opened, their function arguments too."""
    for value in values:
        if isinstance(value, functools.partial):
            yield from _functions([value.func, *value.args, *value.keywords.values()])
        elif inspect.isfunction(value):
            yield value


def arguments(task) -> list[str]:
    """The arguments that partial preprocessors are bound to, readable."""
    return [_spell(p) for p in task.preprocessors]


def _spell(value) -> str:
    if isinstance(value, functools.partial):
        bound = [_spell(v) for v in value.args] + [f"{k}={_spell(v)}" for k, v in value.keywords.items()]
        return f"{_spell(value.func)}({', '.join(bound)})"
    return f"{value.__module__}.{value.__qualname__}" if inspect.isfunction(value) else repr(value)


def input_hashes(task, data_root: str) -> dict[str, str]:
    """Path below the data root → sha256 of what the source says it reads, and "audio" → digest of the audio behind it.

    Sources that say nothing are known by their repr.
    """
    read = getattr(task.source, "input_files", lambda: [])()
    found = {Path(os.path.relpath(f, data_root)).as_posix(): files.sha256(f) for f in read}
    digest = getattr(task.source, "audio_digest", None)
    return found | ({"audio": digest()} if digest else {})


def library_versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def fingerprint(content: dict) -> str:
    """Twelve hex digits of a JSON-able description."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
