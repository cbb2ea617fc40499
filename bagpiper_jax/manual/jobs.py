"""What a job takes: the class that it loads, and flags of its own."""

import ast
import dataclasses

from bagpiper_jax.manual.settings import Group, groups
from bagpiper_jax.manual.source import PACKAGE, Found, Module, lookup, read


@dataclasses.dataclass(frozen=True)
class Job:
    """A command.

    Attributes:
        command: how it is called, such as "bagpiper train".
        text: what its file says of it.
        flags: its short flags and what each means.
        groups: its settings; the first group is that of the job.
    """

    command: str
    text: str
    flags: dict[str, str]
    groups: tuple[Group, ...]


def job(name: str) -> Job:
    """The job of that name, from `bagpiper_jax/jobs/<name>.py`; it is not imported."""
    module = read(f"{PACKAGE.name}.jobs.{name}")
    assert module is not None, f"there is no job {name!r}"
    text = ast.get_docstring(module.tree) or ""
    return Job(f"bagpiper {name}", text, _flags(module), tuple(groups(_root(module))))


def job_of_class(module: str, cls: str, command: str, text: str) -> Job:
    """A command that loads a class of a module; one whose source is not of the package has no settings here."""
    found = read(module)
    node = found.names.get(cls) if found else None
    root = [Found(found, node)] if found and isinstance(node, ast.ClassDef) else []
    return Job(command, text, {}, tuple(group for each in root for group in groups(each)))


def _root(module: Module) -> Found:
    """The class in `configuration.load(Class, …)`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "configuration.load":
            found = lookup(module, node.args[0])
            assert isinstance(found, Found), (
                f"{module.name} loads {ast.unparse(node.args[0])}, which is nowhere"
            )
            return found
    raise AssertionError(f"{module.name} loads no configuration")


def _flags(module: Module) -> dict[str, str]:
    """Flags that the file gives to argparse, with the help beside them."""
    found = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".add_argument"):
            help = next((k.value for k in node.keywords if k.arg == "help"), None)
            found[ast.literal_eval(node.args[0])] = _text(module, help)
    return found


def _text(module: Module, node: ast.expr | None) -> str:
    """A text, of which constants of the module may be parts."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(module, part) for part in parts)
        case ast.FormattedValue(value=ast.Name(id=name)):
            for assigned in ast.walk(module.tree):  # `_ONE, _MANY = "a", "b"` too
                if isinstance(assigned, ast.Assign) and isinstance(assigned.targets[0], ast.Tuple):
                    names = [ast.unparse(target) for target in assigned.targets[0].elts]
                    if name in names:
                        return ast.literal_eval(assigned.value)[names.index(name)]
            found = lookup(module, ast.Name(name))
            return ast.literal_eval(found.node) if isinstance(found, Found) else ""
    return ""
