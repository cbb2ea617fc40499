"""Files are whole or absent, whatever ends a write; workers end with the process that started them."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from bagpiper_jax import files

ROOT = Path(files.__file__).parents[1]


@pytest.mark.parametrize("error", [ValueError, OSError, MemoryError, KeyboardInterrupt, SystemExit])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    files.replace(tmp_path / "a", "old")
    with (
        pytest.raises(files.WriteError if error is OSError else error),
        files.whole(tmp_path / "a") as temporary,
    ):
        temporary.write_text("half")
        raise error("x")
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "old"


def test_a_refusal_names_path_cause_and_remedy(tmp_path):
    for path in (tmp_path / "gone/a", tmp_path / ("x" * 300)):
        with pytest.raises(
            files.WriteError, match=f"cannot write {path}: (No such file|File name too long).*again"
        ):
            files.replace(path, "x")
    full = files.refusal(tmp_path / "a/b/c", OSError(errno.ENOSPC, "No space left on device"), "do it again")
    assert isinstance(full, OSError) and full.errno == errno.ENOSPC
    assert "No space left on device, " in str(full) and "MiB are free there. Free space" in str(full)
    assert str(files.refusal(tmp_path / "d", full)).count("No space") == 1


def test_names_are_long_enough_apart_and_short_enough(tmp_path):
    name = tmp_path / ("ä" * 120)
    assert len({files.temporary_path(name) for _ in range(100)}) == 100
    files.replace(name, b"x")
    assert name.read_bytes() == b"x"


def test_leftovers_of_dead_processes_alone_are_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine = files.temporary_path(tmp_path / "a.flac")
    theirs = Path(str(mine).replace(f"-{os.getpid()}-", f"-{dead.pid}-"))
    elsewhere = Path(str(theirs).replace(files._HOST, "0" * 8))
    for path in (mine, theirs, elsewhere, tmp_path / "notes.tmp-1"):
        path.touch()
    assert [p.name for p in tmp_path.iterdir() if not files.is_temporary(p)] == ["notes.tmp-1"]
    files.remove_leftovers(tmp_path)
    files.remove_leftovers(tmp_path / "gone")
    assert set(tmp_path.iterdir()) == {mine, elsewhere, tmp_path / "notes.tmp-1"}


@pytest.mark.parametrize(
    ("path", "inside"),
    [("a.flac", True), ("b/../a.flac", True), ("", True), ("..", False), ("../root2/a", False), ("/etc/passwd", False),
     ("link", False), ("nowhere/b", True), ("self/a.flac", True), ("x\0y", False), ("x" * 5000, True)],
)  # fmt: skip
def test_what_lies_within_a_directory(tmp_path, path, inside):
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    (root / "self").symlink_to(root)
    (tmp_path / "alias").symlink_to(root)
    assert files.is_within(root, path) == inside and files.is_within(tmp_path / "alias", path) == inside
    assert files.is_within(root, root / path) == inside


PARENT = """
    import os, sys, time
    from bagpiper_jax.workers import worker_pool

    def work(folder):
        open(os.path.join(folder, str(os.getpid())), "w").close()
        time.sleep(600)

    if __name__ == "__main__":
        pool = worker_pool(2)
        for _ in range(2):
            pool.submit(work, sys.argv[1])
        time.sleep(600)
"""


def test_workers_of_a_killed_process_end(tmp_path):
    (tmp_path / "parent.py").write_text(textwrap.dedent(PARENT))
    (tmp_path / "pids").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py", tmp_path / "pids"], env=environment)
    _until(lambda: len(list((tmp_path / "pids").iterdir())) == 2)
    workers = [int(path.name) for path in (tmp_path / "pids").iterdir()]
    assert all(map(_lives, workers))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _until(lambda: not any(map(_lives, workers)))


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _until(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
