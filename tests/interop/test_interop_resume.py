"""An import that is killed continues; its memory is bounded by its largest parameter."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from interop_helpers import MODEL, assert_equal, exporting, importing, native_tensors, save_native
from places import HELPERS, REPOSITORY

from bagpiper_jax.interop import writing as module
from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.interop.formats import orbax_store
from bagpiper_jax.interop.formats.opening import open_tensors
from bagpiper_jax.interop.written_parts import WrittenParts
from bagpiper_jax.journal import JournalError
from bagpiper_jax.training.state import model_shapes

PARTS = len(model_shapes(MODEL))  # at this size each parameter is one part

KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from interop_helpers import importing
from bagpiper_jax.interop.written_parts import WrittenParts
done, count = WrittenParts.done, [0]
def note(self, *part):
    done(self, *part)
    count[0] += 1
    if count[0] == 10:
        os.kill(os.getpid(), signal.SIGKILL)
WrittenParts.done = note
importing({output!r}, espnet={source!r})
"""


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def native():
    return native_tensors()


@pytest.fixture
def source(native, tmp_path):
    return save_native(tmp_path / "base.safetensors", native)


@pytest.fixture
def written(monkeypatch):
    """Names of the parts that are written from now on."""
    names, write = [], module._Writes.add

    def add(self, stored, part, *values):
        names.append(part.name)
        write(self, stored, part, *values)

    monkeypatch.setattr(module._Writes, "add", add)
    return names


def stop_after(monkeypatch, parts: int) -> None:
    """The import ends without any clean-up once so many parts are on disk, as a kill would end it."""
    done, count = WrittenParts.done, [0]

    def note(self, *part):
        if count[0] == parts:
            raise Stopped
        count[0] += 1
        done(self, *part)

    monkeypatch.setattr(WrittenParts, "done", note)


def is_whole(path, native) -> bool:
    back = open_tensors(exporting(path, path.with_suffix(".safetensors")))
    assert_equal({name: tensor.read() for name, tensor in back.items()}, native)
    return not path.with_name(path.name + ".partial").exists()


def test_kill_9_and_the_same_command_again(native, source, tmp_path, written):
    output = tmp_path / "ours"
    code = KILLED.format(tests=str(HELPERS), output=str(output), source=str(source))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert not output.exists() and (tmp_path / "ours.partial").is_dir()
    assert importing(output, espnet=source) == output
    assert len(written) == PARTS - 10
    assert is_whole(output, native)


def test_damaged_parts_are_written_again(native, source, tmp_path, written, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        with pytest.raises(Stopped):
            importing(tmp_path / "ours", espnet=source)
    partial = tmp_path / "ours.partial"
    lines = [json.loads(line) for line in (partial / "journal.jsonl").read_text().splitlines()]
    noted = [line["name"] for line in lines[1:]]
    assert len(noted) == 6
    shapes = {noted[2]: model_shapes(MODEL)[noted[2]]}
    damaged = orbax_store.open_parameters(partial / "parameters", shapes, write=True)[noted[2]]
    damaged.write(0, 1, damaged.read(0, 1) + 1).result()
    with open(partial / "journal.jsonl", "ab") as file:
        file.write(b'{"name": "lm_h')  # the line that the kill tore
    written.clear()
    importing(tmp_path / "ours", espnet=source)
    assert len(written) == PARTS - 5 and noted[2] in written
    assert is_whole(tmp_path / "ours", native)


def test_another_source_starts_anew(native, source, tmp_path, written, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        with pytest.raises(Stopped):
            importing(tmp_path / "ours", espnet=source)
    changed = {name: -x if name == "lm_head.weight" else x for name, x in native.items()}
    save_native(source, changed)
    written.clear()
    importing(tmp_path / "ours", espnet=source)
    assert len(written) == PARTS
    assert is_whole(tmp_path / "ours", changed)


def test_stopped_before_anything_was_written(native, source, tmp_path, monkeypatch):
    def stop(self):
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(WrittenParts, "begin", stop)
        with pytest.raises(Stopped):
            importing(tmp_path / "ours", espnet=source)
    assert is_whole(importing(tmp_path / "ours", espnet=source), native)


def test_two_imports_into_one_place(tmp_path):
    first = WrittenParts(tmp_path / "x", {})
    with pytest.raises(JournalError, match="in use by another process"):
        WrittenParts(tmp_path / "x", {})
    first.finish()


def test_a_full_disk_is_told_before_anything_is_written(source, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(InterchangeError, match="needs 0.0 GB, .* has 0.0 GB free"):
        importing(tmp_path / "ours", espnet=source)
    assert not (tmp_path / "ours.partial").exists()


@pytest.mark.slow
def test_memory_is_below_the_largest_parameter(tmp_path):
    """Import, export and import again of three stacked parameters of 268 MB each."""
    command = [sys.executable, "benchmarks/interchange.py", "--size=wide", f"--directory={tmp_path}"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    stages = [json.loads(line) for line in result.stdout.splitlines() if '"stage"' in line]
    peaks = {s["stage"]: s["peak_above_start_mb"] / s["largest_group_mb"] for s in stages}
    assert peaks.keys() >= {"import", "export", "reimport", "compare_imports"}
    assert max(peaks[stage] for stage in ("import", "export", "reimport")) < 1.3, peaks
