"""What evaluators said is kept, also by a run that is killed while it scores: no file is heard twice."""

import collections
import signal
from pathlib import Path

import numpy as np
import pytest
from counting_evaluators import CALLS, DIE_AT, Counting
from known_evaluators import write_sound
from runner_helpers import job, lines_of

from bagpiper_jax.evaluation.evaluators.listening import Heard
from bagpiper_jax.evaluation.running.kept import KeptAnswers, remembering

LINES = 12


@pytest.fixture
def sound(tmp_path) -> Path:
    return write_sound(tmp_path / "a.wav", 0.2)


@pytest.fixture
def counting(tmp_path) -> Counting:
    return Counting(tmp_path / "calls")


def _again(evaluator, folder: Path, *calls):
    """What a run has that finds the answers of those before it."""
    answers = KeptAnswers(folder / "kept.jsonl")
    try:
        kept = remembering(evaluator, answers)
        return [getattr(kept, method)(*given) for method, *given in calls]
    finally:
        answers.close()


def _count(evaluator: Counting) -> int:
    return len(evaluator.calls.read_text().splitlines())


def test_files_are_heard_once_by_their_content(tmp_path, sound, counting):
    copy = tmp_path / "copy.wav"
    copy.write_bytes(sound.read_bytes())
    first = _again(counting, tmp_path, ("transcribe", sound, "en"), ("voice", sound))
    again = _again(counting, tmp_path, ("transcribe", copy, "en"), ("voice", copy))
    assert _count(counting) == 2 and first[0] == again[0]
    np.testing.assert_array_equal(first[1], again[1])
    _again(counting, tmp_path, ("transcribe", sound, "de"))
    assert _count(counting) == 3, "another language is another question"
    write_sound(sound, 0.3)
    _again(counting, tmp_path, ("transcribe", sound, "en"))
    assert _count(counting) == 4, "another content is another file"


def test_other_weights_and_other_code_hear_anew(tmp_path, sound, counting):
    class Changed(Counting):
        pass

    newer, changed = Counting(counting.calls), Changed(counting.calls)
    newer.version = "2"
    for each in (counting, newer, changed, counting):
        _again(each, tmp_path, ("voice", sound))
    assert _count(counting) == 3
    counting.version = ""
    for _ in range(2):
        _again(counting, tmp_path, ("voice", sound))
    assert _count(counting) == 5, "nothing tells when weights without a version change"


class Odd:
    """An evaluator with every form of answer, and one that nothing can keep."""

    name, version, labels = "odd", "1", ("a", "b")
    calls = 0

    def hear(self, path):
        Odd.calls += 1
        logits = np.array([[1e-30, -np.inf], [np.pi, 2]], np.float32)
        return Heard(np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1], logits)

    def opinions(self, path):
        return {"ovrl": 1 / 3, "sig": float("nan")}

    def voice(self, path):
        Odd.calls += 1
        return {1, 2}


def test_every_answer_comes_back_as_it_was(tmp_path, sound):
    for _ in range(2):
        heard, opinions = _again(Odd(), tmp_path, ("hear", sound), ("opinions", sound))
        assert (heard.embeddings.tolist(), heard.embeddings.dtype) == ([[2, 1, 0], [5, 4, 3]], np.float32)
        assert heard.logits.tobytes() == np.array([[1e-30, -np.inf], [np.pi, 2]], np.float32).tobytes()
        assert opinions["ovrl"] == 1 / 3 and np.isnan(opinions["sig"])
    assert Odd.calls == 1
    assert _again(Odd(), tmp_path, ("voice", sound), ("voice", sound)) == [{1, 2}] * 2 and Odd.calls == 3
    gone = tmp_path / "gone.wav"
    _again(Odd(), tmp_path, ("hear", gone), ("hear", gone))
    assert Odd.calls == 5, "what cannot be read has no content"
    kept = remembering(Odd(), KeptAnswers(tmp_path / "other.jsonl"))
    assert (kept.name, kept.labels, len(lines_of(tmp_path / "other.jsonl"))) == ("odd", ("a", "b"), 0)


def test_a_run_killed_while_it_scores_hears_nothing_again(tmp_path):
    """Killed among verdicts, which threads make, then among the official scores, which one makes."""
    files, output, calls = tmp_path / "en", tmp_path / "out", tmp_path / "calls"
    for number in range(LINES):
        write_sound(tmp_path / "made" / f"{number}.wav", 0.1 + number / 100)
    prompt = write_sound(files / "prompt.wav", 0.5)
    (files / "meta.lst").write_text(
        "".join(f"{n}|said|{prompt.name}|one two|gone.wav\n" for n in range(LINES))
    )
    given = [f"seed_tts={files}", f"--recorded={tmp_path / 'made'}", f"--output={output}"]
    for last, code in (("transcribe 5", -signal.SIGKILL), ("voice 4", -signal.SIGKILL), ("", 0)):
        with job(given, {CALLS: str(calls), DIE_AT: last}, "counting_evaluators") as process:
            said, _ = process.communicate(timeout=300)
        assert process.returncode == code, said
    called = collections.Counter(calls.read_text().splitlines())
    transcribed = [count for call, count in called.items() if call.startswith("transcribe")]
    voices = [count for call, count in called.items() if call.startswith("voice")]
    assert len(transcribed) == LINES and sum(transcribed) <= LINES + 5 and max(transcribed) <= 2
    assert len(voices) == LINES + 1 and sum(voices) == LINES + 2, "the one under way, again"
    assert len(lines_of(output / "evaluators.jsonl")) == 2 * LINES + 1
