"""What a run says of itself when something is wrong: crash.txt, the comparison of hosts, stalls."""

import json
import logging
import os
import time

import pytest
from etils import epath

from bagpiper_jax.errors import EXIT_TRY_AGAIN
from bagpiper_jax.runs import heartbeat
from bagpiper_jax.runs.faults import reported, set_aside
from bagpiper_jax.runs.heartbeat import Heartbeat, WatchConfig, compare
from bagpiper_jax.runs.ledger import Ledger
from bagpiper_jax.runs.outputs import Output

NOW = 1000.0


def sign(**changes):
    return {"host": "a", "pid": 1, "time": NOW, "step": 7, "phase": "step", "since": NOW - 100} | changes


@pytest.mark.parametrize(
    "culprit, message",
    [
        ({}, "process 2 (unknown host) left no sign of life: not started"),
        (sign(host="c", time=NOW - 90), "process 2 (c) is silent for 90 s: dead, frozen or cut off"),
        (
            sign(host="c", phase="data", step=6, since=NOW - 95),
            "process 2 (c) waits for the batch of step 7 for 95 s",
        ),
        (sign(host="c", phase="compile", step=0), "process 2 (c) is in compile for 100 s, at step 0"),
        (sign(host="c", step=4), "process 2 (c) is at step 4 in step, others at 7"),
    ],
)
def test_the_host_at_fault_is_named_and_no_other(culprit, message):
    lines = compare({0: sign(), 1: sign(host="b"), 2: culprit}, NOW, 60)
    assert len(lines) == 1 and lines[0].startswith(message)


@pytest.mark.parametrize("text", ["[1]", "7", '{"step": 3}', '{"time": "now"}', "{"])
def test_what_is_no_sign_of_life_names_its_process_and_ends_no_comparison(tmp_path, caplog, text):
    heart = Heartbeat(Output(tmp_path), Ledger(), WatchConfig(), 0, 2)
    with heart:
        (tmp_path / "hosts" / "1.json").write_text(text)
        heart._report_stall("step", 130.0, NOW)
    assert "process 1 (unknown host) left no sign of life" in caplog.text


def test_without_a_culprit_the_network_is_named():
    assert compare({0: sign(), 1: sign()}, NOW, 60) == [
        "all processes are alive and wait in the same step: look at the network between them"
    ]


def test_a_crash_is_in_one_place_and_the_first_one_stays(tmp_path, caplog):
    ledger = Ledger()
    ledger.enter("data")
    ledger.step = 41
    with pytest.raises(KeyError), reported(tmp_path, ledger):
        raise KeyError("bad record")
    text = (tmp_path / "crash.txt").read_text()
    assert (
        "process 0 (" in text and "failed during data at step 41" in text and "KeyError: 'bad record'" in text
    )
    assert "test_watching.py" in text and f"the report is {tmp_path / 'crash.txt'}" in caplog.text
    assert ledger.end == "KeyError: 'bad record'"
    with pytest.raises(ValueError), reported(tmp_path, ledger):
        raise ValueError("a follower")
    assert "bad record" in (tmp_path / "crash.txt").read_text()
    assert "a follower" in (tmp_path / "crash.0.txt").read_text()


def test_reports_of_earlier_attempts_are_kept_under_their_time(tmp_path):
    with pytest.raises(KeyError), reported(tmp_path, Ledger()):
        raise KeyError("old")
    os.utime(tmp_path / "crash.txt", (time.time() - 3600,) * 2)
    with pytest.raises(KeyError), reported(tmp_path, Ledger()):
        raise KeyError("new")
    assert "'new'" in (tmp_path / "crash.txt").read_text()
    set_aside(epath.Path(tmp_path))
    texts = sorted(path.read_text() for path in tmp_path.glob("crash.2*.txt"))
    assert len(texts) == 2 and not (tmp_path / "crash.txt").exists()


def test_a_directory_that_cannot_be_written_does_not_hide_the_fault(tmp_path, caplog):
    (tmp_path / "file").touch()
    with pytest.raises(KeyError), reported(tmp_path / "file" / "run", Ledger()):
        raise KeyError("the fault")
    assert "no report could be written" in caplog.text and "the fault" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_process_that_waits_for_data_says_so_and_gives_up(tmp_path, caplog, monkeypatch):
    ended = []

    def end(code):
        ended.append(code)
        raise SystemExit  # of the thread alone

    monkeypatch.setattr(heartbeat.os, "_exit", end)
    ledger = Ledger()
    ledger.enter("data")
    ledger.step = 3
    config = WatchConfig(beat_seconds=0.02, stall_seconds=0.1, give_up_seconds=0.4)
    with caplog.at_level(logging.WARNING, "bagpiper_jax"):
        thread = Heartbeat(Output(tmp_path), ledger, config, 0, 2)
        thread.__enter__()
        deadline = time.monotonic() + 30
        while not ended and time.monotonic() < deadline:
            time.sleep(0.01)
        thread.__exit__()
    assert ended == [EXIT_TRY_AGAIN]
    assert caplog.text.count("is in data at step 3 for") == 1
    assert "process 1 (unknown host) left no sign of life" in caplog.text
    assert "100 % of the last" in caplog.text or "waited for data" in caplog.text
    assert json.loads((tmp_path / "hosts" / "0.json").read_text())["phase"] == "data"
    assert "test_a_process_that_waits" in (tmp_path / "hosts" / "0.stack.txt").read_text()
    assert "no progress in data for" in (tmp_path / "crash.txt").read_text()


@pytest.mark.parametrize("phase", ["compile", "eval", "restore"])
def test_phases_that_may_take_long_are_no_stall(tmp_path, caplog, phase):
    ledger = Ledger()
    ledger.enter(phase)
    with Heartbeat(Output(tmp_path), ledger, WatchConfig(0.01, 0.05, 0.1), 0, 1):
        time.sleep(0.3)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize("wrong", [{"beat_seconds": 0}, {"stall_seconds": 5}, {"give_up_seconds": 60}])
def test_bad_seconds(wrong):
    with pytest.raises(ValueError, match="must hold"):
        WatchConfig(**wrong)


@pytest.mark.parametrize("wrong", [(3,), (5, 4), (0, 2)])
def test_bad_profile(wrong):
    with pytest.raises(ValueError, match="first step, last step"):
        WatchConfig(profile=wrong)
