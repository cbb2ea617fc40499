"""What gin files and flags bind, each binding with its place: read to be checked, before gin evaluates anything."""

import dataclasses
import io
import os
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gin
from bagpiper_jax.configuration import places
from gin import config_parser

FLAG = "flag --gin."


@dataclasses.dataclass(frozen=True)
class Reference:
    """`@scope/Name()`, `@Name` or `%MACRO` as written."""

    name: str
    scope: str
    is_macro: bool
    is_call: bool

    def __repr__(self) -> str:
        path = f"{self.scope}/{self.name}" if self.scope else self.name
        return f"%{path}" if self.is_macro else f"@{path}{'()' if self.is_call else ''}"


@dataclasses.dataclass(frozen=True)
class Binding:
    """`scope/Name.field = value`, or with an empty field the macro `Name = value`.

    Attributes:
        place: file and line, or the flag.
        trail: the file and those that include it, outermost first, after the number of the --gin_file; () for a flag.
    """

    scope: str
    name: str
    field: str
    value: Any
    place: str
    trail: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        return self.scope, self.name, self.field

    @property
    def scoped_name(self) -> str:
        return f"{self.scope}/{self.name}" if self.scope else self.name

    def __str__(self) -> str:
        return f"{self.scoped_name}.{self.field}" if self.field else f"macro {self.scoped_name}"


class _Delegate(config_parser.ParserDelegate):
    def configurable_reference(self, scoped_name, evaluate):
        scope, _, name = scoped_name.rpartition("/")
        return Reference(name, scope, False, evaluate)

    def macro(self, macro_name):
        return Reference(macro_name, "", True, True)


def read(files: Iterable[str], flags: Iterable[str]) -> tuple[list[Binding], list[str]]:
    """All bindings in the order they count, the last one wins, and the faults of files that cannot be read."""
    bindings: list[Binding] = []
    faults: list[str] = []
    for number, file in enumerate(files):
        bindings += _read_file(file, (str(number),), "", faults)
    for flag in flags:
        place = FLAG + flag.partition("=")[0].strip()
        bindings += _statements(flag, place, (), faults, place)
    return bindings, faults + _rebound(bindings)


def parse_value(text: str) -> Any:
    """The value that gin reads in a text. Raises one of UNREADABLE."""
    (statement,) = config_parser.ConfigParser(io.StringIO(f"x.y = {text}"), _Delegate())
    return statement.value


UNREADABLE = (SyntaxError, ValueError, TypeError, tokenize.TokenError, RecursionError, MemoryError)
"""What gin's parser raises on a text that is no gin; TypeError is a dictionary key that cannot be one."""

_DEEPEST = 50  # brackets within brackets of a value, and files that include each other


def bind(bindings: Iterable[Binding]) -> None:
    """Makes gin hold the bindings, whose names must be registered with it.

    They were read once, with their includes; gin's own reading of files would search and parse them again.
    """
    for b in bindings:
        if b.field:
            gin.bind_parameter((b.scope, b.name, b.field), _as_gin(b.value))
        else:
            gin.bind_parameter((b.scoped_name, "gin.macro", "value"), _as_gin(b.value))


def _as_gin(value: Any) -> Any:
    """The value with gin's own references in place of ours, and names of the package's files as paths."""
    if isinstance(value, Reference):
        path = f"{value.scope}/{value.name}" if value.scope else value.name
        theirs = gin.config.ParserDelegate()
        return theirs.macro(path) if value.is_macro else theirs.configurable_reference(path, value.is_call)
    if isinstance(value, str):
        return places.of_package(value)
    if isinstance(value, tuple | list):
        return type(value)(map(_as_gin, value))
    if isinstance(value, dict):
        return {_as_gin(key): _as_gin(item) for key, item in value.items()}
    return value


def _read_file(file: str, trail: tuple[str, ...], place: str, faults: list[str]) -> Iterator[Binding]:
    """The bindings of a file; `trail` holds those that include it, `place` the line that does."""
    where = f"{place}: " if place else ""
    beside = os.path.dirname(trail[-1]) if len(trail) > 1 else ""
    path = places.find(file, beside)
    if path is None:
        what = "is a folder" if os.path.isdir(file) else f"does not exist{places.nearest(file)}"
        faults.append(f"{where}gin file {file!r} {what}")
        return
    resolved = os.path.realpath(path)
    if resolved in trail:
        faults.append(f"{where}gin file {file!r} includes itself, by way of {' → '.join(trail[1:])}")
    elif len(trail) > _DEEPEST:
        faults.append(f"{where}gin file {file!r} stands below {_DEEPEST} files that include each other")
    else:
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"{where}gin file {file!r} cannot be read: {error}")
            return
        is_beside = beside and path == os.path.join(beside, file)
        yield from _statements(text, path if is_beside else file, (*trail, resolved), faults)


def _statements(
    text: str, source: str, trail: tuple[str, ...], faults: list[str], flag: str = ""
) -> Iterator[Binding]:
    for statement in _parsed(text, source, faults):
        place = flag or f"{source}:{statement.location.line_num}"
        if isinstance(statement, config_parser.IncludeStatement):
            yield from _read_file(statement.filename, trail, place, faults)
        elif isinstance(statement, config_parser.BindingStatement):
            binding = Binding(
                statement.scope, statement.selector, statement.arg_name, statement.value, place, trail
            )
            if _depth(statement.value) > _DEEPEST:
                faults.append(f"{place}: {binding} has more than {_DEEPEST} brackets within each other")
            else:
                yield binding
        elif not isinstance(statement, config_parser.BlockDeclaration):
            faults.append(f"{place}: only bindings, macros and includes are allowed in gin files here")


def _parsed(text: str, source: str, faults: list[str]) -> Iterator[Any]:
    """gin's statements, up to the first that its parser cannot read."""
    try:
        parser = config_parser.ConfigParser(io.StringIO(text), _Delegate())
    except UNREADABLE as error:
        faults.append(f"{source}: {_spoken(error)}")
        return
    while True:
        try:
            statement = parser.parse_statement()
        except StopIteration:
            faults.append(f"{source}: the text ends within a statement")
            return
        except UNREADABLE as error:
            faults.append(f"{source}: {_spoken(error)}")
            return
        if statement is None:
            return
        yield statement


def _spoken(error: Exception) -> str:
    message = str(error)
    # Python's own tokenizer counts them since 3.12.
    if isinstance(error, RecursionError | MemoryError) or "too many nested parentheses" in message:
        return "brackets are nested too deeply to be read"
    return message if len(message) < 400 else f"{message[:200]} … {message[-100:]}"


def _depth(value: Any) -> int:
    """How many containers stand within each other, found without recursion."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, tuple | list | dict)]:
        depth += 1
        level = [part for item in level for part in _parts(item)]
    return depth


def _parts(container: tuple | list | dict) -> Iterable[Any]:
    return (*container, *container.values()) if isinstance(container, dict) else container


def _rebound(bindings: list[Binding]) -> list[str]:
    """Bindings that replace one which their author may not have seen.

    Meant to replace: a flag, a later --gin_file, a file's own line after the include. Not meant: two lines of one file,
    two files of which neither includes the other, and an include below the line it replaces.
    """
    faults, latest = [], {}
    for binding in bindings:
        before = latest.get(binding.key)
        if before and before.place != binding.place and not _may_replace(binding, before):
            faults.append(
                f"{binding.place}: {binding} is bound at {before.place} already; keep one of the two"
            )
        latest[binding.key] = binding
    return faults


def _may_replace(later: Binding, earlier: Binding) -> bool:
    if not later.trail or later.trail[0] != earlier.trail[0]:
        return True
    return len(later.trail) < len(earlier.trail) and earlier.trail[: len(later.trail)] == later.trail
