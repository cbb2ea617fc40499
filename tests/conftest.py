"""Every test sees eight CPU devices and one compilation cache that outlives the run."""

import collections
import contextlib
import importlib
import os
import sys
import tempfile
from pathlib import Path

import pytest

from bagpiper_jax import task_modules

CACHE = Path(os.environ.get("BAGPIPER_TEST_CACHE", Path(tempfile.gettempdir()) / "bagpiper_jax_test_cache"))

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Programs of tests run for milliseconds: to optimise them takes far longer than it saves. `optimised` tests do.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Where libtpu is installed: no questions to a cloud's metadata server, and several processes may compile at a time.
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Where PyTorch is a CUDA build: Triton's library ends the process if TensorFlow's was loaded before it.
with contextlib.suppress(ImportError):
    importlib.import_module("triton")

task_modules.load_task_modules()  # whatever `tasks` the path has, tests mean ours

TESTS = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest come first, by a list that `--durations` tells, then those of most tests.

    Where processes share a run, one that began such a file last would be at work alone for minutes.
    """
    named = (TESTS / "longest_files.txt").read_text(encoding="utf-8").split()
    places = {TESTS / name: place for place, name in enumerate(named)}
    tests = collections.Counter(item.path for item in items)
    items.sort(key=lambda item: (places.get(item.path, len(places)), -tests[item.path], item.path))


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Compiled programs go with the module that needed them: a whole run would keep gigabytes of them."""
    yield
    if jax := sys.modules.get("jax"):
        jax.clear_caches()


@pytest.fixture(autouse=True, scope="module")
def optimisation(request):
    """Programs of a file that is marked `optimised` are compiled as a user's are."""
    if request.node.get_closest_marker("optimised") is None:
        yield
        return
    import jax

    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, False)
    yield
    jax.config.update(name, before)


@pytest.fixture(scope="session")
def demo_clips() -> Path:
    """Directory of the release's demo clips (audio/ and manifest.jsonl), which are not part of the repository."""
    named = os.environ.get("BAGPIPER_DEMO_CLIPS")
    if not named or not (Path(named) / "manifest.jsonl").is_file():
        pytest.skip("set BAGPIPER_DEMO_CLIPS to the directory of the demo clips to run this test")
    return Path(named)
