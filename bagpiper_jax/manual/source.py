"""Python source that is read and never run: where a name leads, through imports and aliases, to a class or a value."""

import ast
import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Import:
    """`from module import name`; of `import module` the name is ""."""

    module: str
    name: str


@dataclasses.dataclass(frozen=True, eq=False)
class Module:
    """One file.

    Attributes:
        name: its dotted name.
        tree: its syntax.
        names: what its top level defines: classes, values and imports.
    """

    name: str
    tree: ast.Module
    names: Mapping[str, ast.ClassDef | ast.expr | Import]


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """A class or a value, and the module in which its own names have their meaning."""

    module: Module
    node: ast.ClassDef | ast.expr


@functools.cache
def read(name: str) -> Module | None:
    """A module of the package by its dotted name; None for modules of others."""
    top, *rest = name.split(".")
    place = PACKAGE.joinpath(*rest)
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    if top != PACKAGE.name or not path.is_file():
        return None
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return Module(name, tree, _names(tree))


def _names(tree: ast.Module) -> dict[str, ast.ClassDef | ast.expr | Import]:
    found: dict[str, ast.ClassDef | ast.expr | Import] = {}
    for node in tree.body:
        match node:
            case ast.ClassDef():
                found[node.name] = node
            case ast.Assign(targets=[ast.Name(id=name)]):
                found[name] = node.value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                found[name] = value
            case ast.ImportFrom(module=str(module)):
                found |= {a.asname or a.name: Import(module, a.name) for a in node.names}
            case ast.Import():
                found |= {a.asname or a.name: Import(a.name, "") for a in node.names}
    return found


def lookup(module: Module, node: ast.expr) -> Found | Module | None:
    """What `Name` or `module.Name` stands for where a module writes it; None for what is not of the package."""
    if isinstance(node, ast.Attribute):
        outer = lookup(module, node.value)
        return _named(outer, node.attr) if isinstance(outer, Module) else None
    return _named(module, node.id) if isinstance(node, ast.Name) else None


def _named(module: Module, name: str) -> Found | Module | None:
    found = module.names.get(name)
    if not isinstance(found, Import):
        return Found(module, found) if found is not None else read(f"{module.name}.{name}")
    other = read(found.module)
    if not found.name or other is None:
        return other
    return _named(other, found.name)


class _Plain(ast.NodeTransformer):
    """Writes out aliases and constants, and names classes of the package without their module."""

    def __init__(self, module: Module):
        self._module = module

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._plain(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        return self._plain(node)

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return node

    def _plain(self, node: ast.expr) -> ast.expr:
        found = lookup(self._module, node)
        if not isinstance(found, Found):
            return node
        if isinstance(found.node, ast.ClassDef):
            return ast.Name(found.node.name)
        if "__file__" in ast.unparse(found.node):  # a path of this installation: its name says more
            return node
        return plain(found.module, found.node)


def plain(module: Module, node: ast.expr) -> ast.expr:
    """An expression of a module as one reads it elsewhere."""
    copy = ast.parse(ast.unparse(node), mode="eval").body
    return _Plain(module).visit(copy)


def classes_in(module: Module, node: ast.expr) -> list[Found]:
    """The classes of the package that an annotation names, in order, aliases followed."""
    if isinstance(node, ast.Name | ast.Attribute):
        found = lookup(module, node)
        if not isinstance(found, Found):
            return []
        return [found] if isinstance(found.node, ast.ClassDef) else classes_in(found.module, found.node)
    return [each for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)
            for each in classes_in(module, part)]  # fmt: skip
