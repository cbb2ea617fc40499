"""An output belongs to one run at a time: the second is told who is there, and touches nothing."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from etils import epath
from places import REPOSITORY

from bagpiper_jax.encoders import codec, tower
from bagpiper_jax.runs import faults, output_lock
from bagpiper_jax.runs.ledger import Ledger
from bagpiper_jax.runs.output_lock import FILE, OutputError, OutputInUseError, hold, require_quiet
from bagpiper_jax.runs.outputs import Output

HOLDER = """
import sys
from bagpiper_jax.runs.output_lock import hold
with hold(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path / "run"`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_told_who_holds_the_output(tmp_path, holder):
    who = f"process {holder.pid} on {socket.gethostname()}, since 20"
    for path in (tmp_path / "run", f"{tmp_path}/./run/"):
        with pytest.raises(OutputInUseError, match=who), hold(path):
            pass
    (tmp_path / "link").symlink_to("run")
    with pytest.raises(OutputInUseError, match=who), hold(tmp_path / "link"):
        pass


@pytest.mark.parametrize("end", ["kill", "terminate", "leave"])
def test_the_output_is_free_however_its_process_ends(tmp_path, holder, end):
    holder.stdin.close() if end == "leave" else getattr(holder, end)()
    holder.wait()
    with hold(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / FILE).read_text())["pid"] == os.getpid()


def test_one_process_does_not_hold_an_output_twice_but_an_output_knows_that_it_is_held(tmp_path):
    output = Output(tmp_path)
    with output.held(1), output.held(1):
        with pytest.raises(OutputInUseError), Output(tmp_path).held(1):
            pass
    with Output(tmp_path).held(1):
        pass


@pytest.mark.parametrize("where", ["file", "file/run", "\0"])
def test_an_output_that_cannot_be_written_to_is_explained(tmp_path, where):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to the output"), hold(tmp_path / where):
        pass


def test_no_crash_is_reported_to_an_output_of_another_run(tmp_path, holder):
    with pytest.raises(OutputInUseError), faults.reported(tmp_path / "run", Ledger()), hold(tmp_path / "run"):
        pass
    assert [p.name for p in (tmp_path / "run").iterdir()] == [FILE]


@pytest.mark.parametrize("train", [codec.train_codec, tower.train_tower])
def test_encoders_hold_theirs_before_they_read_a_corpus(tmp_path, holder, train):
    config = {codec.train_codec: codec.TrainCodecConfig, tower.train_tower: tower.TrainTowerConfig}[train]
    with pytest.raises(OutputInUseError):
        train(config(output=str(tmp_path / "run"), corpora=("nowhere",)))


class TestBuckets:
    """They cannot be locked: the sign of life tells."""

    @pytest.fixture
    def sign(self, tmp_path):
        path = epath.Path(tmp_path / "run" / "hosts" / "0.json")
        path.parent.mkdir(parents=True)
        return path

    def write(self, sign, **changes):
        sign.write_text(json.dumps({"pid": 7, "host": "a", "time": time.time(), "phase": "step"} | changes))

    def test_a_sign_that_changes_is_of_a_run_alive(self, sign, monkeypatch):
        monkeypatch.setattr(output_lock.time, "sleep", lambda seconds: self.write(sign, step=1))
        self.write(sign)
        with pytest.raises(OutputInUseError, match="in use by process 7 on a"):
            require_quiet(sign, 0.1)

    def test_one_that_does_not_change_is_of_a_run_that_was_killed(self, sign):
        self.write(sign)
        require_quiet(sign, 0.01)

    @pytest.mark.parametrize("changes", [{"ended": True}, {"time": 0.0}])
    def test_nothing_is_waited_for_after_an_end_or_long_ago(self, sign, monkeypatch, changes):
        monkeypatch.setattr(output_lock.time, "sleep", lambda seconds: pytest.fail("waits"))
        self.write(sign, **changes)
        require_quiet(sign, 10.0)

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"time": 1}'])
    def test_a_sign_that_says_nothing_keeps_nobody_out(self, sign, text):
        require_quiet(sign, 0.01)
        sign.write_text(text)
        require_quiet(sign, 0.01)

    def test_a_run_in_a_bucket_looks_there_and_locks_its_local_files(self, tmp_path, sign, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(output_lock.time, "sleep", lambda seconds: self.write(sign, step=1))
        output = Output("gs://b/run")
        output.path = sign.parent.parent
        self.write(sign)
        with pytest.raises(OutputInUseError), output.held(0.1):
            pass
        self.write(sign, ended=True)
        with output.held(0.1):
            with (
                pytest.raises(OutputInUseError, match="runs/buckets/b/run is in use"),
                Output("gs://b/run").held(0.1),
            ):
                pass


def test_threads_of_one_process_do_not_share_an_output(tmp_path):
    caught = []

    def second():
        try:
            with hold(tmp_path):
                pass
        except OutputInUseError as error:
            caught.append(error)

    with hold(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(caught) == 1
