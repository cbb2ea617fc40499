"""A hook of MkDocs: after the pages in mkdocs.yml all settings, and one API page for each room of the package, in
alphabetical order.

Settings and API are read from the source, so that no library of the package need be installed.
"""

import ast
import sys
from pathlib import Path

from mkdocs.structure.files import File

PACKAGE = Path(__file__).resolve().parents[1] / "bagpiper_jax"
sys.path.insert(0, str(PACKAGE.parent))

from bagpiper_jax import manual  # noqa: E402
from bagpiper_jax.jobs import JOBS  # noqa: E402

INDEX, SETTINGS = "api/index.md", "api/settings.md"


def rooms() -> list[str]:
    """Folders with code, and modules that stand beside them."""
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    modules = {path.stem for path in PACKAGE.glob("[a-z]*.py")}
    return sorted(folders | modules)


def on_config(config):
    config.nav.append({"Settings": SETTINGS})
    config.nav.append({"API": [INDEX, *({room: f"api/{room}.md"} for room in rooms())]})
    return config


def on_files(files, config):
    pages = {f"api/{room}.md": f"# {room}\n\n::: bagpiper_jax.{room}\n" for room in rooms()}
    pages[INDEX] = "# API\n\n" + "\n".join(f"- [{room}]({room}.md): {_summary(room)}" for room in rooms())
    pages[SETTINGS] = manual.reference(JOBS)
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def _summary(room: str) -> str:
    """The first line of a room's docstring."""
    path = PACKAGE / room / "__init__.py"
    path = path if path.exists() else (PACKAGE / room).with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path.exists() else None
    return (docstring or "").split("\n")[0]
