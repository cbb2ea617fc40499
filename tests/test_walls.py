"""The walls of ARCHITECTURE.md: which room may import what."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest
from places import REPOSITORY

from bagpiper_jax.jobs import JOBS

PACKAGE = REPOSITORY / "bagpiper_jax"

# Lowest first: a file imports only rooms that stand earlier in this list, and files of its own.
ROOMS = (
    "errors", "outcomes", "task_modules", "strict", "typed",
    "files", "buckets", "digests", "workers", "pipelines", "journal", "audio", "vocabulary",
    "parallel", "pods", "manual", "configuration",
    "dialogue", "manifest", "batch",
    "text", "captions", "runs", "pages",
    "corpora", "curation",
    "models", "data", "tasks", "caching",
    "training", "encoders", "interop", "generation", "serving", "evaluation", "inspection", "sizing",
    "jobs", "__main__",
)  # fmt: skip
MOST_FILES, MOST_LINES = 20, 350
"""Of a folder, of a file."""

# What a training host has when it has nothing but the numeric core.
ABSENT_ON_A_BARE_TRAINING_HOST = (
    "tensorflow", "seqio", "gin", "librosa", "grain", "tokenizers", "soundfile", "soxr", "av",
    "torch", "transformers", "tensorboardX", "tqdm", "safetensors", "array_record", "jinja2",
    "markupsafe", "rapidfuzz", "xxhash", "starlette", "uvicorn", "pydantic", "prometheus_client",
    "whisper_normalizer",
)  # fmt: skip


def _modules(*rooms: str) -> list[str]:
    return sorted(name for name in FILES if name.split(".")[1:2] and name.split(".")[1] in rooms)


def _files() -> dict[str, Path]:
    """Dotted name → file, of the package and of `tasks`."""
    found = {}
    for top in (PACKAGE, REPOSITORY / "tasks"):
        for path in top.rglob("*.py"):
            name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def _imports(path: Path) -> set[str]:
    """Dotted names of all that a file imports, wherever in it, but for annotations alone."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _own_imports(name: str) -> set[str]:
    """Files of ours that a file imports; of `from package import module` the module alone."""
    found = _imports(FILES[name]) & FILES.keys()
    return {each for each in found if not any(other.startswith(f"{each}.") for other in found)} - {name}


def _room(name: str) -> str:
    top, *rest = name.split(".")
    return "tasks" if top == "tasks" else rest[0] if rest else ""


FILES = _files()


def _run(code: str) -> None:
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]


def test_training_core_imports_with_only_the_numeric_core():
    modules = _modules(
        "models",
        "training",
        "generation",
        "evaluation",
        "inspection",
        "pages",
        "planning",
        "parallel",
        "dialogue.py",
        "vocabulary.py",
        "audio",
    )
    blocked = ABSENT_ON_A_BARE_TRAINING_HOST
    _run(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {blocked!r}: raise ImportError(name + ' is absent here')\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import importlib\n"
        f"for module in {modules!r}: importlib.import_module(module)\n"
    )


@pytest.mark.parametrize(
    "module",
    [
        "bagpiper_jax.jobs.train",
        "bagpiper_jax.data.loader",
        "bagpiper_jax.jobs.generate",
        "bagpiper_jax.jobs.inspect_data",
        "bagpiper_jax.inspection.validation",
    ],
)
def test_serving_and_training_load_no_tensorflow(module):
    _run(
        f"import sys, {module}\n"
        "loaded = {'tensorflow', 'seqio', 'tensorflow_text'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )


def test_tasks_import_no_model():
    for path in (REPOSITORY / "tasks").rglob("*.py"):
        wrong = {
            n
            for n in _imports(path)
            if n.startswith(("bagpiper_jax.models", "bagpiper_jax.training", "jax", "flax"))
        }
        assert not wrong, f"{path.name} imports {wrong}"


def test_no_room_imports_a_later_one():
    rank = {room: number for number, room in enumerate(ROOMS)}
    assert {_room(name) for name in FILES} - {""} == set(ROOMS)
    wrong = [
        f"{name} imports {other}"
        for name in sorted(FILES)
        for other in sorted(_own_imports(name))
        if _room(name) and _room(other) and rank[_room(other)] > rank[_room(name)]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_file_imports_itself_through_others():
    graph = {name: _own_imports(name) for name in FILES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names one


def test_nothing_imports_a_job():
    for name, path in FILES.items():
        wrong = _imports(path) & {f"bagpiper_jax.jobs.{job}" for job in JOBS}
        assert not wrong, f"{name} imports {wrong}"


def test_no_folder_is_crowded_and_no_file_is_long():
    files = [*FILES.values(), *(REPOSITORY / "tests").rglob("*.py"), *(REPOSITORY / "launch").glob("*.py")]
    files += (REPOSITORY / "benchmarks").glob("*.py")
    crowded = {f.parent.name for f in files if len(list(f.parent.glob("*.py"))) > MOST_FILES + 1}
    long = {f.name: n for f in files if (n := len(f.read_text(encoding="utf-8").splitlines())) > MOST_LINES}
    # Jobs are many, and each is a file that its name leads to.
    assert crowded <= {"jobs"} and {f.stem for f in (REPOSITORY / "bagpiper_jax/jobs").glob("*.py")} == {
        "__init__",
        *JOBS,
    }
    assert not long, long


def test_no_private_library_modules():
    for name, path in FILES.items():
        wrong = {n for n in _imports(path) if "._src" in n}
        assert not wrong, f"{name} imports {wrong}"
