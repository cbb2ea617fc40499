"""Gin at the edge: from gin files and flags to one built, type-checked frozen dataclass.

A job calls `load(JobConfig, argv)`. The dataclasses that `JobConfig` reaches through its field annotations are
the only names that gin can bind; the code underneath never sees gin. Every binding is checked against the
field's annotation before anything is built, and all faults are reported at once with file, line and the nearest
valid name. A binding or macro that nothing uses is a fault too, as is one that replaces another by accident.
"""

import argparse
import dataclasses
import difflib
import logging
import sys
import typing
from collections.abc import Mapping, Sequence

import gin
from bagpiper_jax import manual, typed
from bagpiper_jax.configuration import bindings, checks
from bagpiper_jax.errors import Explained

_log = logging.getLogger(__name__)


class ConfigurationError(Explained, ValueError):
    """One or more faults in gin files or flags; the message lists each with its place and a remedy."""


def load(
    root: type,
    argv: list[str] | None = None,
    description: str | None = None,
    defaults: Sequence[str] = (),
    prog: str | None = None,
):
    """Builds `root` from `--gin_file=…` (repeatable) and `--gin.Name.field=value` flags.

    Args:
        root: the job's frozen dataclass.
        argv: flags without the program's name; None reads `sys.argv`.
        description: the job's help text.
        defaults: bindings, `Name.field=value`, that hold wherever neither a file nor a flag binds the field.
        prog: the command in the usage line, such as "bagpiper train"; None takes the file that Python runs.

    Raises:
        ConfigurationError: unknown names, wrong types, unused or missing bindings; all of them at once.
    """
    # force: some libraries install a handler of their own when imported.
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    for noisy in ("absl", "jax._src", "orbax"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    files, flags = _parse_flags(root, sys.argv[1:] if argv is None else argv, description, prog)
    built = build(root, files, flags, defaults)
    if prog:  # the imports behind took seconds in silence, and what comes next may
        _log.info("%s begins", prog)
    return built


def build(root: type, files: list[str], flags: Sequence[str] = (), defaults: Sequence[str] = ()):
    """Builds `root` from gin files and `Name.field=value` bindings, see `load`. Raises ConfigurationError."""
    classes = _reachable(root)
    gin.clear_config(clear_constants=True)
    for name, cls in classes.items():
        _register(name, cls)
    quoted = [_quote(binding, classes) for binding in flags]
    found, faults = bindings.read(files, quoted)
    given = {str(binding) for binding in found}
    _bound.clear()
    _bound.update(f"{binding.name}.{binding.field}" for binding in found if binding.field)
    missing = [binding for binding in defaults if binding.partition("=")[0] not in given]
    found = [*bindings.read([], missing)[0], *found]
    _raise_if(faults + checks.faults(root, found, classes, is_whole=not faults))
    bindings.bind(found)
    try:
        return _registered[root]()
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{root.__name__} cannot be built: {error}") from error


def bound() -> frozenset[str]:
    """What the last `build` was told, such as "DecoderConfig.layers", in any scope: all else has its default."""
    return frozenset(_bound)


def operative_config() -> str:
    """Every parameter in use, defaults included, as gin text: saved beside a run's checkpoints."""
    return gin.operative_config_str()


def _parse_flags(
    root: type, argv: list[str], description: str | None, prog: str | None
) -> tuple[list[str], list[str]]:
    parser = argparse.ArgumentParser(prog=prog, add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--gin_file", action="append", default=[])
    known, rest = parser.parse_known_args(argv)
    if known.help:
        print(manual.help_of_class(root.__module__, root.__name__, parser.prog, description or ""))
        sys.exit(0)
    bound, strangers = [], []
    for flag in rest:
        is_binding = flag.startswith("--gin.") and "=" in flag
        (bound if is_binding else strangers).append(flag.removeprefix("--gin.") if is_binding else flag)
    if strangers:
        hint = _binding_meant(strangers, _reachable(root)) or "a binding is --gin.Name.field=value"
        raise ConfigurationError(f"unknown flags: {' '.join(strangers)}; {hint}")
    return known.gin_file, bound


def _binding_meant(strangers: Sequence[str], classes: Mapping[str, type]) -> str:
    """The bindings that `--steps=100`, `--steps 100` or `steps=100` may stand for; "" if none is known."""
    meant = []
    for flag, behind in zip(strangers, (*strangers[1:], ""), strict=True):
        name, equals, value = flag.removeprefix("--").removeprefix("gin.").partition("=")
        if not (equals or flag.startswith("--")):
            continue  # the value of the flag before it
        if not equals:
            value = "…" if behind.startswith("-") or not behind else behind
        meant += [f"--gin.{path}={value}" for path in _paths(name, classes)]
    return f"did you mean {' or '.join(meant)}?" if meant else ""


def _paths(name: str, classes: Mapping[str, type]) -> list[str]:
    """Of a field's name, misspelt perhaps, up to three places that have it, those of the job's own class first."""
    fields = [f"{owner}.{field}" for owner, cls in classes.items() for field in typing.get_type_hints(cls)]
    if found := [path for path in fields if name in (path, path.partition(".")[2])]:
        return found[:3]
    names = {path.partition(".")[2] for path in fields}
    near = difflib.get_close_matches(name.rpartition(".")[2].replace("-", "_"), sorted(names), 1, 0.75)
    return [path for path in fields if path.partition(".")[2] in near][:3]


_registered: dict[type, typing.Any] = {}
_bound: set[str] = set()


def _register(name: str, cls: type) -> None:
    if cls not in _registered:
        _registered[cls] = gin.external_configurable(cls, name=name)


def _reachable(root: type) -> dict[str, type]:
    """All dataclasses among the annotations of `root`, transitively, by name."""
    found, waiting = {}, [root]
    while waiting:
        cls = waiting.pop(0)
        if cls.__name__ in found:
            continue
        found[cls.__name__] = cls
        for annotation in typing.get_type_hints(cls).values():
            waiting += [t for t in typed.leaves(annotation) if dataclasses.is_dataclass(t)]
    return found


def _quote(binding: str, classes: dict[str, type]) -> str:
    """Lets `--gin.X.path=some/file` stand for a string, as a shell user expects."""
    target, _, value = binding.partition("=")
    try:
        bindings.parse_value(value)
    except bindings.UNREADABLE:
        return f"{target} = {value!r}"
    name, _, field = target.rpartition("/")[2].rpartition(".")
    hints = typing.get_type_hints(classes[name]) if name in classes else {}
    if hints.get(field) is str and not value.startswith(("'", '"', "%", "@")):
        return f"{target} = {value!r}"
    return f"{target} = {value}"


def _raise_if(faults: list[str]) -> None:
    if faults:
        raise ConfigurationError("configuration faults:\n  " + "\n  ".join(faults))
