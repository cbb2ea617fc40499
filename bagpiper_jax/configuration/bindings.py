"""What gin files and flags bind, each binding with its place: read to be checked, before gin evaluates anything."""

import dataclasses
import difflib
import io
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gin import config_parser

REPOSITORY = Path(__file__).resolve().parents[2]
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

    def __str__(self) -> str:
        name = f"{self.scope}/{self.name}" if self.scope else self.name
        return f"{name}.{self.field}" if self.field else f"macro {name}"


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
    """The value that gin reads in a text. Raises SyntaxError, ValueError or TokenError."""
    (statement,) = config_parser.ConfigParser(io.StringIO(f"x.y = {text}"), _Delegate())
    return statement.value


def inlined(file: str) -> str:
    """The text of a gin file with its includes in place of their lines; only for files that `read` found faultless."""
    lines = _text(find(file)).splitlines()
    return "\n".join(
        inlined(line.split(None, 1)[1].split("#")[0].strip().strip("'\""))
        if line.startswith("include ")
        else line
        for line in lines
    )


def find(file: str) -> Path | None:
    """A gin file relative to the working directory or to the repository."""
    return next((p for p in (Path(file), REPOSITORY / file) if p.is_file()), None)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")


def _read_file(file: str, trail: tuple[str, ...], place: str, faults: list[str]) -> Iterator[Binding]:
    path = find(file)
    where = f"{place}: " if place else ""
    if path is None:
        faults.append(f"{where}gin file {file!r} does not exist{_nearest_file(file)}")
    elif str(path.resolve()) in trail:
        faults.append(f"{where}gin file {file!r} includes itself, by way of {' → '.join(trail[1:])}")
    else:
        try:
            text = _text(path)
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"{where}gin file {file!r} cannot be read: {error}")
            return
        yield from _statements(text, file, (*trail, str(path.resolve())), faults)


def _nearest_file(file: str) -> str:
    known = [str(p.relative_to(REPOSITORY)) for p in (REPOSITORY / "gin").rglob("*.gin")]
    near = difflib.get_close_matches(file, known, n=1, cutoff=0.75)
    return f"; did you mean {near[0]!r}?" if near else ""


def _statements(
    text: str, source: str, trail: tuple[str, ...], faults: list[str], flag: str = ""
) -> Iterator[Binding]:
    parser = config_parser.ConfigParser(io.StringIO(text), _Delegate())
    while True:
        try:
            statement = next(parser, None)
        except (SyntaxError, ValueError, tokenize.TokenError) as error:
            faults.append(f"{source}: {error}")
            return
        if statement is None:
            return
        place = flag or f"{source}:{statement.location.line_num}"
        if isinstance(statement, config_parser.IncludeStatement):
            yield from _read_file(statement.filename, trail, place, faults)
        elif isinstance(statement, config_parser.BindingStatement):
            where = statement.scope, statement.selector, statement.arg_name
            yield Binding(*where, statement.value, place, trail)
        elif not isinstance(statement, config_parser.BlockDeclaration):
            faults.append(f"{place}: only bindings, macros and includes are allowed in gin files here")


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
