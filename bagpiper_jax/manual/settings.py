"""The settings of a dataclass and of all that its fields are made of."""

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator

from bagpiper_jax.manual.source import Found, Module, classes_in, lookup, plain

_ENTRY = re.compile(r"^(\w+(?:, \w+)*):\s*(.*)$")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One field.

    Attributes:
        name: the field.
        type: its annotation, aliases written out.
        default: the value it has if nobody binds it, as source; None if one must.
        meaning: what its class says of it, in one line; what is said of several fields begins with their names.
        nested: names of the classes that its values are of, each a `Group`.
    """

    name: str
    type: str
    default: str | None
    meaning: str
    nested: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Group:
    """A dataclass that gin can bind: its name, what it is, its fields."""

    name: str
    summary: str
    settings: tuple[Setting, ...]


def groups(root: Found) -> list[Group]:
    """The settings of a class and of those that its fields name, each class once, nearest first."""
    waiting, found = [root], {}
    while waiting:
        each = waiting.pop(0)
        if each.node.name in found or not _is_dataclass(each.node):
            continue
        fields = list(_fields(each))
        found[each.node.name] = _group(each, fields)
        waiting += [cls for module, field in fields for cls in classes_in(module, _annotation(field))]
    return list(found.values())


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _fields(cls: Found) -> Iterator[tuple[Module, ast.AnnAssign]]:
    """The fields of a class: inherited ones first, and one that is given anew in its old place."""
    found = {}
    for base in cls.node.bases:
        if isinstance(parent := lookup(cls.module, base), Found) and isinstance(parent.node, ast.ClassDef):
            found |= {field.target.id: (module, field) for module, field in _fields(parent)}
    own = [f for f in cls.node.body if isinstance(f, ast.AnnAssign) and isinstance(f.target, ast.Name)]
    found |= {field.target.id: (cls.module, field) for field in own if not _is_no_setting(field)}
    yield from found.values()


def _is_no_setting(field: ast.AnnAssign) -> bool:
    of_class = ast.unparse(field.annotation).startswith(("ClassVar", "typing.ClassVar"))
    return of_class or _option(field.value, "init") == "False"


def _option(value: ast.expr | None, name: str) -> str | None:
    """An argument of `dataclasses.field`, as source."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) in ("field", "dataclasses.field"):
        return next((ast.unparse(k.value) for k in value.keywords if k.arg == name), None)
    return None


def _annotation(field: ast.AnnAssign) -> ast.expr:
    """The annotation, unquoted where it is written as a string."""
    if isinstance(field.annotation, ast.Constant) and isinstance(field.annotation.value, str):
        return ast.parse(field.annotation.value, mode="eval").body
    return field.annotation


def _group(cls: Found, fields: list[tuple[Module, ast.AnnAssign]]) -> Group:
    summary, meanings = "", {}
    for each in (*_parents(cls), cls):
        summary, told = _docstring(each.node)
        meanings |= told
    settings = [_setting(module, field, meanings.get(field.target.id, "")) for module, field in fields]
    return Group(cls.node.name, summary, tuple(settings))


def _parents(cls: Found) -> list[Found]:
    found = []
    for base in cls.node.bases:
        if isinstance(parent := lookup(cls.module, base), Found) and isinstance(parent.node, ast.ClassDef):
            found += [*_parents(parent), parent]
    return found


def _setting(module: Module, field: ast.AnnAssign, meaning: str) -> Setting:
    annotation = _annotation(field)
    nested = [cls.node.name for cls in classes_in(module, annotation) if _is_dataclass(cls.node)]
    spelled = ast.unparse(plain(module, annotation))
    return Setting(field.target.id, spelled, _default(module, field.value), meaning, tuple(nested))


def _default(module: Module, value: ast.expr | None) -> str | None:
    if value is None:
        return None
    if isinstance(value, ast.Call) and ast.unparse(value.func) in ("field", "dataclasses.field"):
        factory = _option(value, "default_factory")
        return f"{factory}()" if factory else _option(value, "default")
    return ast.unparse(plain(module, value))


def _docstring(node: ast.ClassDef) -> tuple[str, dict[str, str]]:
    """What a class says of itself, and of each field under `Attributes:`."""
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    summary, _, rest = text.partition("\nAttributes:\n")
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in rest.splitlines():
        if line and not line.startswith(" "):
            break  # the next section
        indent, said = len(line) - len(line.lstrip()), line.strip()
        if indent == 4 and (entry := _ENTRY.match(said)):
            names, said = entry[1].split(", "), entry[2]
            if len(names) > 1:  # what is said of several may tell them apart
                said = f"{entry[1]}: {said}"
        for name in names if said else ():
            meanings[name] = f"{meanings.get(name, '')} {said}".strip()
    return summary.strip(), meanings
