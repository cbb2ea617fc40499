"""A hook of MkDocs: one API page for each room of the package, in alphabetical order, after the pages in mkdocs.yml.

mkdocstrings reads the source, so that no library of the package need be installed.
"""

import ast
from pathlib import Path

from mkdocs.structure.files import File

PACKAGE = Path(__file__).parents[1] / "bagpiper_jax"
INDEX = "api/index.md"


def rooms() -> list[str]:
    """Folders with code, and modules that stand beside them."""
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    modules = {path.stem for path in PACKAGE.glob("[a-z]*.py")}
    return sorted(folders | modules)


def on_config(config):
    config.nav.append({"API": [INDEX, *({room: f"api/{room}.md"} for room in rooms())]})
    return config


def on_files(files, config):
    pages = {f"api/{room}.md": f"# {room}\n\n::: bagpiper_jax.{room}\n" for room in rooms()}
    pages[INDEX] = "# API\n\n" + "\n".join(f"- [{room}]({room}.md): {_summary(room)}" for room in rooms())
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def _summary(room: str) -> str:
    """The first line of a room's docstring."""
    path = PACKAGE / room / "__init__.py"
    path = path if path.exists() else (PACKAGE / room).with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path.exists() else None
    return (docstring or "").split("\n")[0]
