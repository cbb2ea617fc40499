"""Loads the modules that register tasks: ours by their place, a user's by their name.

Our tasks are the package `tasks`: `tasks/` of the checkout, `bagpiper_jax/_tasks/` where the package is installed. Many
projects have a `tasks` of their own (Invoke, Celery), and jobs are run in their folders. So ours is never looked for on
the path.
"""

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from bagpiper_jax.errors import Explained

NAME = "tasks"


class TaskModuleError(Explained):
    """A module of tasks that cannot be imported; names it and the reason."""


def location() -> Path:
    """The folder of our tasks. Raises TaskModuleError: the installation lacks them."""
    package = Path(__file__).parent
    for folder in (package / "_tasks", package.parent / NAME):
        if (folder / "settings.py").is_file():
            return folder.resolve()
    raise TaskModuleError(f"{package} was installed without its tasks; install bagpiper_jax again")


def load_task_modules(modules: Iterable[str] = ()) -> None:
    """Makes `import tasks` mean ours, whatever lies in the working directory, and imports modules by name.

    A user's modules are found as Python finds any, and in the working directory; their own `tasks` has to be imported
    under another name.

    Raises:
        TaskModuleError: another package `tasks` is loaded in this process, or a module cannot be imported.
    """
    _load_ours()
    if not any(os.path.realpath(place) == os.path.realpath(os.curdir) for place in sys.path):
        sys.path.append(os.getcwd())  # last, so that it hides nothing
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise TaskModuleError(_explanation(module, error)) from error


def _load_ours() -> None:
    folder = location()
    loaded = sys.modules.get(NAME)
    if loaded is not None:
        if folder not in [Path(place).resolve() for place in getattr(loaded, "__path__", ())]:
            place = getattr(loaded, "__file__", None) or "this process"
            raise TaskModuleError(
                f"a module {NAME!r} is loaded already, {place}; the tasks of bagpiper_jax have that name, so run "
                "the job in a process of its own, or give the other module another name"
            )
        return
    spec = importlib.util.spec_from_file_location(
        NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def _explanation(module: str, error: Exception) -> str:
    wanted = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    if wanted and (wanted == module or module.startswith(f"{wanted}.")):
        return f"{module} cannot be imported: neither the path nor {os.getcwd()} has a module {wanted!r}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{module} cannot be imported: {last.filename}:{last.lineno}: {type(error).__name__}: {error}"
