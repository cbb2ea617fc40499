"""What is told of work that lasts, where nobody watches a terminal."""

import logging
import threading

import pytest

from bagpiper_jax.runs import progress
from bagpiper_jax.runs.progress import Progress, Underway


class _Lines(logging.Handler):
    """Keeps what is logged, and tells when there are `enough` lines."""

    def __init__(self, enough: int):
        super().__init__()
        self.said, self._enough, self.arrived = [], enough, threading.Event()

    def emit(self, record):
        self.said.append(record.getMessage())
        if len(self.said) >= self._enough:
            self.arrived.set()


@pytest.fixture
def lines(monkeypatch):
    monkeypatch.setattr(progress, "terminal_bar", lambda **options: None)
    handler, logger = _Lines(2), logging.getLogger(progress.__name__)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_a_line_of_validation_begins_with_its_name(lines):
    with Progress(0, 2400) as shown:
        shown.report(800, {"loss": 3.25, "tokens_per_second": 7000.0})
        shown.report(800, {"loss": 3.5, "unigram_loss": 5.75}, "validation")
    training, validation = lines.said
    assert training.startswith("step 800/2400, loss 3.25, tokens_per_second 7000, ")
    assert validation == "validation at step 800: loss 3.5, unigram_loss 5.75"


def test_what_lasts_says_again_and_again_how_far_it_is(lines, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.001)
    with Underway("encoding clips", total=9, done=2) as underway:
        underway.add(3)
        lines.said.clear()  # the last may be from before
        lines.arrived.clear()
        assert lines.arrived.wait(60)
    said = len(lines.said)
    assert lines.said[-1] == "encoding clips: 5 of 9, 0 s, 0:00:00 left"
    lines.arrived.clear()
    assert not lines.arrived.wait(0.05) and len(lines.said) == said, "it ends with the work"


@pytest.mark.parametrize("seconds, active", [(60, True), (0.001, False)])
def test_what_ends_soon_and_what_another_process_tells_says_nothing(lines, monkeypatch, seconds, active):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", seconds)
    with Underway("compiling", active=active):
        assert not lines.arrived.wait(0.05)
    assert lines.said == []


def test_a_fault_inside_ends_the_lines_and_goes_on(lines, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.001)
    with pytest.raises(KeyError), Underway("compiling") as underway:
        raise KeyError
    assert not underway._thread.is_alive()


def test_steps_are_told_when_their_numbers_are_long_in_coming(lines, monkeypatch):
    with Progress(10, 800) as shown:
        shown.step()
        assert not lines.said, "the first line may take five seconds"
        monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
        shown.step()
    assert len(lines.said) == 1 and lines.said[0].startswith("step 12/800, 0:"), lines.said
    assert lines.said[0].endswith(" left")
