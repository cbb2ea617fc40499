"""The walls of ARCHITECTURE.md: which room may import what. Imports are followed for real, in fresh interpreters."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "bagpiper_jax"
ENTRY_POINTS = {
    "build_corpus", "train_codec", "tokenize_audio", "cache_tasks", "check_tasks", "inspect_data", "train", "generate",
    "evaluate",
    "import_checkpoint", "export_checkpoint", "logit_check", "plan", "learn_tokenizer", "train_tower",
    "caption_audio", "tag_captions", "score_captions", "select_captions", "simulate_dialogues",
}  # fmt: skip
# What a training host has when it has nothing but the numeric core.
ABSENT_ON_A_BARE_TRAINING_HOST = (
    "tensorflow", "seqio", "gin", "librosa", "grain", "tokenizers", "soundfile", "soxr", "av",
    "torch", "transformers", "tensorboardX", "tqdm", "safetensors", "array_record",
)  # fmt: skip


def _modules(*rooms: str) -> list[str]:
    found = []
    for room in rooms:
        path = PACKAGE / room
        files = [path] if path.suffix == ".py" else path.rglob("*.py")
        found += [".".join(f.relative_to(REPOSITORY).with_suffix("").parts) for f in files]
    return sorted(name.removesuffix(".__init__") for name in found)


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {f"{n.module}" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    names |= {
        f"{n.module}.{a.name}" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names
    }
    return names


def _run(code: str) -> None:
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]


def test_training_core_imports_with_only_the_numeric_core():
    modules = _modules(
        "models",
        "training",
        "generation",
        "inspection",
        "planning",
        "parallel",
        "dialogue.py",
        "vocabulary.py",
        "audio.py",
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


def test_nothing_imports_an_entry_point():
    for path in [*PACKAGE.rglob("*.py"), *(REPOSITORY / "tasks").rglob("*.py")]:
        wrong = {n for n in _imports(path) if n in {f"bagpiper_jax.{e}" for e in ENTRY_POINTS}}
        assert not wrong, f"{path.name} imports {wrong}"


def test_no_private_library_modules():
    for path in [*PACKAGE.rglob("*.py"), *(REPOSITORY / "tasks").rglob("*.py")]:
        wrong = {n for n in _imports(path) if "._src" in n}
        assert not wrong, f"{path.name} imports {wrong}"


def test_every_job_has_its_entry_point():
    missing = {e for e in ENTRY_POINTS if not (PACKAGE / f"{e}.py").exists()}
    assert not missing
