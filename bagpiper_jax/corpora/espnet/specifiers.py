"""What ESPnet's command line names: specifiers, registries, dataset JSON and length files.

See docs/reference.md, Dataset files.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from bagpiper_jax.corpora.assembly import CorpusError

TASKS = {
    "text_to_audio": ("text1", "audio1"),
    "audio_to_text": ("audio1", "text1"),
    "text_only": ("text1",),
    "dialogue": ("dialogue",),
}
"""Task → the entries that its template reads (docs/reference.md, Message layout)."""


@dataclasses.dataclass(frozen=True)
class Specifier:
    """`task:name:dataset.json[:factor]`, or `task:name[:factor]` with the path out of a registry."""

    task: str
    name: str
    path: Path
    factor: float = 1.0


@dataclasses.dataclass(frozen=True)
class DatasetEntry:
    """One of a dataset's sources."""

    name: str
    path: Path
    reader: str


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset JSON: the sources, joined by sample id, and the ids in use."""

    path: Path
    entries: tuple[DatasetEntry, ...]
    samples: tuple[str, ...]


def parse(text: str, registry: Mapping[str, str], root: Path) -> Specifier:
    """Reads one specifier; relative paths are under `root`. Raises CorpusError."""
    task, *rest = text.split(":")
    if task not in TASKS:
        raise CorpusError(f"specifier {text!r}: task {task!r} is none of {', '.join(TASKS)}")
    if len(rest) > 1 and _is_number(rest[-1]):
        *rest, last = rest
        factor = float(last)
    else:
        factor = 1.0
    if not rest or len(rest) > 2 or not all(rest) or not (math.isfinite(factor) and factor > 0):
        raise CorpusError(f"specifier {text!r} is not task:name:dataset.json[:factor] or task:name[:factor]")
    name = rest[0]
    if len(rest) == 1 and name not in registry:
        raise CorpusError(
            f"specifier {text!r}: no registry has {name!r}; known: {', '.join(registry) or 'none'}"
        )
    return Specifier(task, name, root / (rest[1] if len(rest) == 2 else registry[name]), factor)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_registries(paths: Iterable[str | Path]) -> dict[str, str]:
    """Dataset name → path of its JSON, of YAML files {name: {path: …}}. Raises CorpusError."""
    found: dict[str, str] = {}
    for path in paths:
        content = read_yaml(path)
        for name, value in content.items():
            if not isinstance(value, dict) or not isinstance(value.get("path"), str):
                raise CorpusError(f"{path}: {name} must be a mapping with a `path`")
            if found.setdefault(str(name), value["path"]) != value["path"]:
                raise CorpusError(f"{path}: {name} stands in another registry with another path")
    return found


def read_yaml(path: str | Path) -> dict:
    """A YAML mapping, by the safe loader. Raises CorpusError."""
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CorpusError(f"{path} is no readable YAML: {error}") from error
    if not isinstance(content, dict):
        raise CorpusError(f"{path} holds a {type(content).__name__}, not a mapping")
    return content


def read_dataset(specifier: Specifier, root: Path) -> Dataset:
    """Reads a dataset JSON and checks that it has what the task needs. Raises CorpusError."""
    path = specifier.path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = tuple(DatasetEntry(e["name"], root / e["path"], e["reader"]) for e in content["data_entry"])
        samples = tuple(content["samples"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = 'it must be {"data_entry": [{"name", "path", "reader"}], "samples": [ids]}'
        raise CorpusError(f"{path} is no dataset JSON ({error!r}); {remedy}") from error
    strange = [sample for sample in samples if not isinstance(sample, str) or not sample]
    if strange:
        raise CorpusError(f"{path}: sample ids must be strings, found {strange[:3]}")
    needed = TASKS[specifier.task]
    missing = [name for name in needed if name not in {e.name for e in entries}]
    if missing:
        raise CorpusError(f"{path}: task {specifier.task} needs the entries {', '.join(missing)}")
    return Dataset(path, tuple(e for e in entries if e.name in needed), samples)


def read_lengths(directory: str | Path, specifier: Specifier) -> dict[str, int]:
    """Sample id → slots, of `stats_<task>_<name>.jsonl`, one {"id": length} a line. Raises CorpusError."""
    path = Path(directory) / f"stats_{specifier.task}_{specifier.name}.jsonl"
    if not path.is_file():
        raise CorpusError(f"{path} does not exist; give the folder of the length files, or none")
    lengths: dict[str, int] = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                ((sample, length),) = json.loads(line).items()
                lengths[sample] = int(length)
            except (ValueError, TypeError, AttributeError) as error:
                raise CorpusError(f'{path}:{number}: not one {{"id": length}} ({error})') from error
    return lengths
