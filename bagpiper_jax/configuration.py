"""Gin at the edge: from gin files and flags to one built, type-checked frozen dataclass.

A job calls `load(JobConfig, argv)`. The dataclasses that `JobConfig` reaches through its field annotations are
the only names that gin can bind; the code underneath never sees gin. Every binding is checked against the
field's annotation before anything is built, and all faults are reported at once with file, line and the nearest
valid name. A binding that nothing uses is a fault too.
"""

import argparse
import dataclasses
import difflib
import io
import logging
import sys
import tokenize
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import gin
from gin import config_parser

_REPOSITORY = Path(__file__).resolve().parent.parent
_log = logging.getLogger(__name__)


class ConfigurationError(ValueError):
    """One or more faults in gin files or flags; the message lists each with its place and a remedy."""


@dataclasses.dataclass(frozen=True)
class _Binding:
    name: str
    field: str
    value: typing.Any
    place: str


@dataclasses.dataclass(frozen=True)
class _Reference:
    """`@Name()` or `%MACRO` as written in a gin file."""

    name: str
    is_macro: bool
    is_call: bool


class _Delegate(config_parser.ParserDelegate):
    def configurable_reference(self, scoped_name, evaluate):
        return _Reference(scoped_name.split("/")[-1], False, evaluate)

    def macro(self, macro_name):
        return _Reference(macro_name, True, True)


def load(root: type, argv: list[str] | None = None, description: str | None = None):
    """Builds `root` from `--gin_file=…` (repeatable) and `--gin.Name.field=value` flags.

    Args:
        root: the job's frozen dataclass.
        argv: flags without the program's name; None reads `sys.argv`.
        description: the job's help text.

    Raises:
        ConfigurationError: unknown names, wrong types, unused or missing bindings; all of them at once.
    """
    # force: some libraries install a handler of their own when imported.
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    for noisy in ("absl", "jax._src", "orbax"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    files, flags = _parse_flags(root, sys.argv[1:] if argv is None else argv, description)
    return build(root, files, flags)


EXIT_FAULT = 2
"""A fault that the message explains and that trying again will not mend, as command-line tools end on bad usage."""


def run_job(main) -> None:
    """Runs an entry point's `main`.

    A configuration fault, or `sys.exit(message)` for any fault that the job explains, ends with the message on
    stderr and exit code 2. A traceback, with exit code 1, is a fault of the program.
    """
    try:
        main()
    except ConfigurationError as error:
        fault = str(error)
    except SystemExit as end:
        if not isinstance(end.code, str):
            raise
        fault = end.code
    else:
        return
    print(fault, file=sys.stderr, flush=True)
    sys.exit(EXIT_FAULT)


def build(root: type, files: list[str], bindings: list[str] = ()):
    """Builds `root` from gin files and `Name.field=value` bindings. Raises ConfigurationError."""
    classes = _reachable(root)
    gin.clear_config(clear_constants=True)
    for name, cls in classes.items():
        _register(name, cls)
    quoted = [_quote(binding, classes) for binding in bindings]
    found = list(_read_files(files)) + list(_read_text("\n".join(quoted), "flag --gin."))
    _raise_if(_faults(found, classes))
    # One text with every include in place: gin's own search for files logs an error for each path it tries.
    gin.parse_config("\n".join([*(_inlined(file) for file in files), *quoted]))
    try:
        built = _registered[root]()
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{root.__name__} cannot be built: {error}") from error
    _raise_if(_unused(found))
    return built


def operative_config() -> str:
    """Every parameter in use, defaults included, as gin text: saved beside a run's checkpoints."""
    return gin.operative_config_str()


def _parse_flags(root: type, argv: list[str], description: str | None) -> tuple[list[str], list[str]]:
    fields = ", ".join(f.name for f in dataclasses.fields(root))
    parser = argparse.ArgumentParser(
        description=description or (root.__doc__ or "").split("\n")[0],
        epilog=f"--gin.{root.__name__}.FIELD=VALUE overrides a field: {fields}",
    )
    parser.add_argument("--gin_file", action="append", default=[], help="a gin file; repeatable, later wins")
    known, rest = parser.parse_known_args(argv)
    bindings, strangers = [], []
    for flag in rest:
        is_binding = flag.startswith("--gin.") and "=" in flag
        (bindings if is_binding else strangers).append(flag.removeprefix("--gin.") if is_binding else flag)
    if strangers:
        raise ConfigurationError(f"unknown flags: {' '.join(strangers)}; a binding is --gin.Name.field=value")
    return known.gin_file, bindings


_registered: dict[type, typing.Any] = {}


def _register(name: str, cls: type) -> None:
    if cls not in _registered:
        _registered[cls] = gin.external_configurable(cls, name=name)


def _reachable(root: type) -> dict[str, type]:
    """All dataclasses among the annotations of `root`, transitively, by name."""
    found, waiting = {}, [root]
    while waiting:
        cls = waiting.pop()
        if cls.__name__ in found:
            continue
        found[cls.__name__] = cls
        for annotation in typing.get_type_hints(cls).values():
            waiting += [t for t in _leaves(annotation) if dataclasses.is_dataclass(t)]
    return found


def _leaves(annotation) -> Iterator[typing.Any]:
    arguments = typing.get_args(annotation)
    if not arguments:
        yield annotation
    for argument in arguments:
        yield from _leaves(argument)


def _quote(binding: str, classes: dict[str, type]) -> str:
    """Lets `--gin.X.path=some/file` stand for a string, as a shell user expects."""
    target, _, value = binding.partition("=")
    try:
        _parse_value(value)
    except (SyntaxError, ValueError, tokenize.TokenError):
        return f"{target} = {value!r}"
    name, _, field = target.rpartition(".")
    hints = typing.get_type_hints(classes[name]) if name in classes else {}
    if hints.get(field) is str and not value.startswith(("'", '"', "%", "@")):
        return f"{target} = {value!r}"
    return f"{target} = {value}"


def _parse_value(text: str):
    (statement,) = config_parser.ConfigParser(io.StringIO(f"x.y = {text}"), _Delegate())
    return statement.value


def _read_files(files: list[str]) -> Iterator[_Binding]:
    for file in files:
        yield from _read_text(_find(file).read_text(), file)


def _inlined(file: str) -> str:
    """The text of a gin file with its includes in place of their lines."""
    lines = _find(file).read_text().splitlines()
    return "\n".join(
        _inlined(line.split(None, 1)[1].strip().strip("'\"")) if line.startswith("include ") else line
        for line in lines
    )


def _find(file: str) -> Path:
    """A gin file relative to the working directory or to the repository."""
    path = next((p for p in (Path(file), _REPOSITORY / file) if p.is_file()), None)
    if path is None:
        raise ConfigurationError(f"gin file {file!r} does not exist{_nearest_file(file)}")
    return path


def _nearest_file(file: str) -> str:
    known = [str(p.relative_to(_REPOSITORY)) for p in (_REPOSITORY / "gin").rglob("*.gin")]
    near = difflib.get_close_matches(file, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _read_text(text: str, source: str) -> Iterator[_Binding]:
    parser = config_parser.ConfigParser(io.StringIO(text), _Delegate())
    while True:
        try:
            statement = next(parser)
        except StopIteration:
            return
        except (SyntaxError, tokenize.TokenError) as error:
            raise ConfigurationError(f"{source}: {error}") from error
        if isinstance(statement, config_parser.IncludeStatement):
            yield from _read_files([statement.filename])
        elif isinstance(statement, config_parser.BindingStatement):
            place = f"{source}:{statement.location.line_num}" if "flag" not in source else source
            yield _Binding(statement.selector, statement.arg_name, statement.value, place)
        elif not isinstance(statement, config_parser.BlockDeclaration):
            raise ConfigurationError(
                f"{source}: only bindings, macros and includes are allowed in gin files here"
            )


def _faults(bindings: list[_Binding], classes: dict[str, type]) -> list[str]:
    macros = {b.name: b.value for b in bindings if not b.field}
    faults = []
    for b in bindings:
        if not b.field:
            continue
        if b.name not in classes:
            faults.append(f"{b.place}: unknown name {b.name!r}{_suggest(b.name, classes)}")
            continue
        hints = typing.get_type_hints(classes[b.name])
        if b.field not in hints:
            faults.append(f"{b.place}: {b.name} has no parameter {b.field!r}{_suggest(b.field, hints)}")
            continue
        fault = _type_fault(b.value, hints[b.field], macros, classes)
        if fault:
            faults.append(f"{b.place}: {b.name}.{b.field} {fault}")
    return faults


def _suggest(name: str, known) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"


def _type_fault(value, annotation, macros: dict, classes: dict) -> str | None:
    if isinstance(value, _Reference) and value.is_macro:
        if value.name not in macros:
            return f"uses the macro %{value.name}, which is defined nowhere"
        value = macros[value.name]
    if isinstance(value, _Reference):
        if value.name not in classes:
            return f"refers to unknown name @{value.name}{_suggest(value.name, classes)}"
        if not value.is_call:
            return f"refers to @{value.name}; write @{value.name}() to build it"
        if not any(value.name == getattr(leaf, "__name__", "") for leaf in _leaves(annotation)):
            return f"expects {_spell(annotation)}, got @{value.name}()"
        return None
    return None if _matches(value, annotation) else f"expects {_spell(annotation)}, got {value!r}"


def _matches(value, annotation) -> bool:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(_matches(value, a) for a in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin in (tuple, list):
        if not isinstance(value, origin):
            return False
        if origin is tuple and arguments[-1:] != (Ellipsis,):
            return len(value) == len(arguments) and all(map(_matches, value, arguments))
        return all(isinstance(v, _Reference) or _matches(v, arguments[0]) for v in value)
    if origin is dict:
        return isinstance(value, dict) and all(_matches(v, arguments[1]) for v in value.values())
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation in (None, type(None)):
        return value is None
    return annotation is typing.Any or isinstance(value, annotation)


def _spell(annotation) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _unused(bindings: list[_Binding]) -> list[str]:
    operative = {(b.name, b.field) for b in _read_text(gin.operative_config_str(), "operative configuration")}
    used_names = {name for name, _ in operative}
    return [
        f"{b.place}: {b.name}.{b.field} is bound but nothing uses it; refer to it with @{b.name}() or remove it"
        for b in bindings
        if b.field and b.name not in used_names
    ]


def _raise_if(faults: list[str]) -> None:
    if faults:
        raise ConfigurationError("configuration faults:\n  " + "\n  ".join(faults))
