"""Our tasks are found by their place, whatever else is named `tasks`; a user's modules by their name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bagpiper_jax import task_modules

ROOT = Path(task_modules.__file__).parents[1]
LOAD = "from bagpiper_jax.task_modules import load_task_modules; load_task_modules({modules}); "


def run(folder: Path, modules: tuple, code: str = "", path: Path = ROOT) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(path), "JAX_PLATFORMS": "cpu"}
    command = [
        sys.executable,
        "-c",
        code or LOAD.format(modules=modules) + "import tasks; print(tasks.__file__)",
    ]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What a wheel holds."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def theirs(folder: Path, form: str) -> None:
    if form == "module":
        (folder / "tasks.py").write_text("from a_library_that_is_not_here import task\n")
    elif form == "package":
        (folder / "tasks").mkdir()
        (folder / "tasks" / "__init__.py").write_text("raise RuntimeError('theirs')\n")
    elif form == "folder":
        (folder / "tasks").mkdir()
    (folder / "mine.py").write_text("import tasks.settings\n")


@pytest.mark.parametrize("form", ["nothing", "module", "package", "folder"])
@pytest.mark.parametrize("where", ["checkout", "wheel"])
def test_ours_are_loaded_beside_others_of_their_name(tmp_path, form, where, request):
    place = (
        ROOT / "tasks"
        if where == "checkout"
        else request.getfixturevalue("installed") / "bagpiper_jax/_tasks"
    )
    theirs(tmp_path, form)
    found = run(tmp_path, ("mine",), path=ROOT if where == "checkout" else place.parents[1])
    assert found.stdout.strip() == str(place / "__init__.py"), found.stderr


def test_a_wheel_leaves_the_name_to_others(installed):
    assert sorted(path.name for path in installed.iterdir()) == ["bagpiper_jax"]
    assert {p.name for p in (ROOT / "tasks").glob("*.py")} == {
        p.name for p in (installed / "bagpiper_jax/_tasks").glob("*.py")
    }


def test_the_working_directory_is_searched_also_by_an_installed_command(tmp_path):
    """A console script has its own folder on the path, not the working directory."""
    (tmp_path / "mine.py").write_text("print('imported')\n")
    code = f"import sys; sys.path.remove(''); {LOAD.format(modules=('mine',))}"
    assert run(tmp_path, (), code).stdout.strip() == "imported"


FAULTS = {
    "gone": ("", "gone cannot be imported: neither the path nor .* has a module 'gone'"),
    "needy": (
        "\nimport a_library_that_is_not_here\n",
        r"needy.py:2: ModuleNotFoundError: .*a_library_that_is_not_here",
    ),
    "broken": ("1 / 0\n", "broken.py:1: ZeroDivisionError"),
    "torn": ("def (\n", "torn cannot be imported: .*SyntaxError"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_module_that_cannot_be_imported_is_named_with_its_line(tmp_path, monkeypatch, name):
    text, message = FAULTS[name]
    if text:
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(task_modules.TaskModuleError, match=message):
        task_modules.load_task_modules((name,))


def test_a_process_that_loaded_other_tasks_is_told(tmp_path):
    theirs(tmp_path, "nothing")
    (tmp_path / "tasks.py").write_text("THEIRS = True\n")
    found = run(tmp_path, (), "import tasks; " + LOAD.format(modules=()))
    assert (
        found.returncode == 1
        and "TaskModuleError" in found.stderr
        and "/tasks.py; the tasks of" in found.stderr
    )
