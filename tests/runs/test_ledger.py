"""The account of a run's wall time: every second once, over attempts that end well, badly, or without a word."""

import json
import logging

import pytest

from bagpiper_jax.runs.ledger import FILE, PHASES, Ledger


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def spend(ledger, clock, **seconds):
    for phase, n in seconds.items():
        with ledger.during(phase):
            clock.now += n


def stored(path):
    return json.loads((path / FILE).read_text())


def assert_sums(account):
    assert sum(account["seconds"].values()) == pytest.approx(account["wall_seconds"])
    assert set(account["seconds"]) == set(PHASES)


def test_nested_phases_count_once(clock):
    ledger = Ledger(clock)
    clock.now += 2
    ledger.enter("step")
    clock.now += 3
    with ledger.during("eval"):
        clock.now += 5
        spend(ledger, clock, checkpoint=7)
    clock.now += 1
    assert ledger.seconds == dict.fromkeys(PHASES, 0.0) | {"setup": 2, "step": 4, "eval": 5, "checkpoint": 7}
    assert ledger.phase == "step"


def test_a_failure_stays_in_its_phase(clock):
    ledger = Ledger(clock)
    ledger.enter("step")

    def batches():
        yield 0
        raise OSError("gone")

    with pytest.raises(OSError):
        for _ in ledger.waits(batches()):
            assert ledger.phase == "step"
    assert ledger.phase == "data"


def test_waiting_for_batches_is_data_and_using_them_is_not(clock):
    def batches():
        for n in range(3):
            clock.now += 10
            yield n

    ledger = Ledger(clock)
    ledger.enter("step")
    for _ in ledger.waits(batches()):
        clock.now += 1
    assert (ledger.seconds["data"], ledger.seconds["step"], ledger.waited) == (30, 3, 30)


def test_steps_done_again_are_lost_and_the_pause_is_down(clock, tmp_path, caplog):
    first = Ledger(clock)
    clock.now += 4
    first.open(tmp_path, 0)
    spend(first, clock, compile=6, step=80, data=20)
    first.step = 10
    first.save()

    clock.now += 50  # killed: nothing more is written
    with caplog.at_level(logging.WARNING, "bagpiper_jax"):
        second = Ledger(clock)
        second.open(tmp_path, 6)
    assert "ended at step 6 without a word: killed" in caplog.text
    spend(second, clock, restore=1, step=40)
    second.step, second.end = 10, "done"
    second.save()

    account = stored(tmp_path)
    assert_sums(account)
    wanted = {"setup": 4, "compile": 6, "step": 48 + 40, "data": 12, "lost": 32 + 8, "restore": 1, "down": 50}
    assert {k: v for k, v in account["seconds"].items() if v} == pytest.approx(wanted)
    assert account["goodput"] == pytest.approx(88 / account["wall_seconds"])
    assert [(a["end"], a["from_step"], a["to_step"]) for a in account["attempts"]] == [
        ("killed", 0, 6), ("done", 6, 10)
    ]  # fmt: skip
    assert account["attempts"][0]["lost_steps"] == 4


def test_an_attempt_can_lose_steps_twice_but_not_more_than_it_did(clock, tmp_path):
    for start, reached in ((0, 10), (8, 12), (4, 20)):
        ledger = Ledger(clock)
        ledger.open(tmp_path, start)
        spend(ledger, clock, step=float(reached - start))
        ledger.step, ledger.end = reached, "preempted"
        ledger.save()
    account = stored(tmp_path)
    assert_sums(account)
    assert account["seconds"]["step"] == pytest.approx(20) and account["seconds"]["lost"] == pytest.approx(10)


def test_a_damaged_account_is_reported_and_begun_anew(clock, tmp_path, caplog):
    (tmp_path / FILE).write_text('{"attempts": [')
    Ledger(clock).open(tmp_path, 3)
    assert "is damaged" in caplog.text and len(stored(tmp_path)["attempts"]) == 1


def test_only_an_active_process_reads_and_writes(clock, tmp_path, caplog):
    ledger = Ledger(clock)
    ledger.open(tmp_path, 0, active=False)
    ledger.save()
    assert not list(tmp_path.iterdir())
    Ledger(clock).open(tmp_path, 0)
    ledger.open(tmp_path, 0, active=False)
    assert "without a word" not in caplog.text, "the file is of this attempt's first process"


def test_a_clock_that_is_set_back_takes_no_seconds_away(clock):
    ledger = Ledger(clock)
    ledger.enter("step")
    clock.now += 10
    ledger.enter("data")
    clock.now -= 5000
    assert ledger.waited == 0
    ledger.enter("step")
    clock.now += 7
    account = ledger.total()
    assert min(account["seconds"].values()) >= 0 and 0 <= account["goodput"] <= 1
    assert_sums(account)


def test_setting_the_machine_s_clock_changes_nothing(monkeypatch):
    ledger = Ledger()
    began = ledger.began
    for moved in (-1e6, 1e6):
        monkeypatch.setattr("time.time", lambda moved=moved: began + moved)
        seconds = ledger.seconds["setup"]
        assert 0 <= seconds < 60
    assert ledger.now() - began < 60


def test_a_clock_set_back_between_attempts_is_marked_and_no_pause(clock, tmp_path):
    for start, moved in ((0, -3600), (4, 50), (8, 0)):
        ledger = Ledger(clock)
        ledger.open(tmp_path, start)
        spend(ledger, clock, step=4.0)
        ledger.step, ledger.end = start + 4, "preempted"
        ledger.save()
        clock.now += moved
    account = stored(tmp_path)
    assert_sums(account)
    assert account["clock_set_back_seconds"] == pytest.approx(3600)
    assert account["seconds"]["down"] == pytest.approx(50) and account["wall_seconds"] == pytest.approx(62)
    assert account["goodput"] == pytest.approx(12 / 62)


def test_negative_seconds_of_an_older_account_do_not_spoil_the_sum(clock, tmp_path):
    seconds = dict.fromkeys(PHASES, 0.0) | {"step": -4000.0, "data": 5.0}
    attempt = {
        "began": 900.0,
        "ended": -3100.0,
        "from_step": 0,
        "to_step": 3,
        "end": "done",
        "seconds": seconds,
    }
    (tmp_path / FILE).write_text(json.dumps({"attempts": [attempt]}))
    ledger = Ledger(clock)
    ledger.open(tmp_path, 3)
    spend(ledger, clock, step=5.0)
    account = ledger.total()
    assert_sums(account)
    assert 0 <= account["goodput"] <= 1
