"""Simulated dialogues: what tuning reads comes out, each stage's drops are counted, a kill costs nothing twice."""

import collections
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import simulated_answers
from curation_helpers import corpus, result, settings
from misbehaving_endpoint import GOOD, endpoint
from places import REPOSITORY
from simulated_answers import EVIDENCE, IMAGINARY, REALISTIC, REASONING, marks, stage_of

from bagpiper_jax.captions import CaptionFilter
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.curation.captioning import CaptionConfig
from bagpiper_jax.curation.dialogues import judging, requesting
from bagpiper_jax.curation.dialogues.judging import UNDERSTANDING
from bagpiper_jax.curation.dialogues.simulation import SimulateConfig, simulate


def test_defaults_are_the_references():
    config = SimulateConfig(("a",), "b")  # docs/reference.md, Tuning dialogues
    assert (config.min_words, config.max_words) == (15, 80)
    assert (config.min_heads, config.min_reasoning_chars) == (3, 50)
    assert (config.reasoning_temperature, config.reasoning_max_tokens) == (0.3, 1024)
    assert (config.judge_temperature, config.judge_max_tokens) == (0.1, 1536)
    kept = config.thresholds
    assert (kept.realistic, kept.imaginary, kept.mean) == (3, 2, 3.5)
    assert len(judging.GENERATION) == 5 and sum(map(len, judging.GENERATION.values())) == 22
    assert CaptionConfig(("a",), "b").caption_filter == CaptionFilter()


def test_a_clip_becomes_three_dialogues(tmp_path):
    corpus(tmp_path, 2)
    with endpoint(simulated_answers.answer) as server:
        simulate(SimulateConfig(**settings(tmp_path, server), system_prompt="You make audio."))
        assert collections.Counter(stage_of(body["messages"]) for body in server.asked) == {
            "requests": 2, "reasoning": 4, "judge": 4, "question": 2, "evidence": 2, "judge_answer": 2,
        }  # fmt: skip
    clips, dropped, summary = result(tmp_path)
    styles = ("imaginary", "realistic", "understanding")
    assert sorted(clips) == [f"c{i}.{style}" for i in range(2) for style in styles]
    assert dropped == {f"t.{style}": "no_caption" for style in styles}
    clip = clips["c0.realistic"]
    assert clip.dialogue == [
        ["system", "text", "You make audio."],
        ["user", "text", REALISTIC],
        ["assistant", "text", f"<think>\n{REASONING}\n</think>\n\n{clip.caption}"],
        ["assistant", "audio", "c0.realistic"],
    ]
    assert clips["c0.imaginary"].dialogue[1][2] == IMAGINARY
    assert clips["c0.understanding"].dialogue == [
        ["user", "audio", "c0.understanding"],
        ["user", "text", "What is the weather like?"],
        ["assistant", "text", f"Caption of the audio: {clip.caption}\n\n<think>\n{EVIDENCE}\n</think>\n\nIt rains."],
    ]  # fmt: skip
    assert clip.metrics["judge_mean"] == clip.metrics["judge_min"] == 4 and clip.metrics["persona"]


def answering(stage: str, answered: str | dict):
    """Good answers to all stages but one."""

    def answer(messages):
        good = simulated_answers.answer(messages)
        if stage_of(messages) != stage:
            return good
        return json.dumps({**json.loads(good), **answered}) if isinstance(answered, dict) else answered

    return answer


@pytest.mark.parametrize(
    "stage, answered, reason",
    [
        ("question", "What?", "unreadable_question"),
        ("question", {"answer": ""}, "unreadable_question"),
        ("question", {"question": "why " * 121}, "unreadable_question"),
        (
            "evidence",
            EVIDENCE.replace("User Intent", "Wish").replace("Self-Check", "Doubt"),
            "reasoning_form",
        ),
        ("judge_answer", marks(4), "unreadable_judgement"),
        ("judge_answer", marks(5, UNDERSTANDING, answer__correctness=2), "judged_below_minimum"),
        ("judge_answer", marks(3, UNDERSTANDING), "judged_below_mean"),
    ],
)
def test_each_stage_of_questions_drops_what_fails_it(tmp_path, stage, answered, reason):
    corpus(tmp_path, 1)
    with endpoint(answering(stage, answered)) as server, pytest.raises(CorpusError, match=f"{reason} 1"):
        simulate(SimulateConfig(**settings(tmp_path, server, max_reject_frac=1.0), kinds=("understanding",)))


@pytest.mark.parametrize(
    "stage, answered, realistic, imaginary",
    [
        ("requests", "no JSON", "unreadable_requests", "unreadable_requests"),
        ("requests", {"persona": 9}, "unreadable_requests", "unreadable_requests"),
        ("requests", {"imaginary": None}, "unreadable_requests", "unreadable_requests"),
        ("requests", {"realistic": "Make it."}, "request_length", None),
        ("requests", {"realistic": "word " * 81}, "request_length", None),
        ("requests", {"imaginary": IMAGINARY.replace("morning", "evening")}, None, "transcript_changed"),
        ("requests", {"realistic": "word " * 80 + '"Good morning."'}, None, None),
        ("reasoning", "User Intent: to hear.\n2. Audio Quality: good.\n" + "x" * 50, *["reasoning_form"] * 2),
        ("reasoning", "1. User Intent\n2. Audio Quality\n3. Generation Plan", None, None),
        ("judge", "All fine.", "unreadable_judgement", "unreadable_judgement"),
        ("judge", marks().replace('"plan": 4', '"plan": "4"'), *["unreadable_judgement"] * 2),
        ("judge", marks().replace('"plan": 4, ', ""), *["unreadable_judgement"] * 2),
        ("judge", marks(4, reasoning__plan=2), "judged_below_minimum", None),
        ("judge", marks(5, reasoning__plan=1), "judged_below_minimum", "judged_below_minimum"),
        ("judge", marks(3), "judged_below_mean", "judged_below_mean"),
        (
            "judge",
            marks(3, **{f"request__{n}": 5 for n in judging.GENERATION["request"]}, value__language=4),
            None,
            None,
        ),
    ],
)
def test_each_stage_of_requests_drops_what_fails_it(tmp_path, stage, answered, realistic, imaginary):
    corpus(tmp_path, 1)
    with endpoint(answering(stage, answered)) as server:
        config = SimulateConfig(**settings(tmp_path, server, max_reject_frac=1.0), kinds=("generation",))
        if realistic and imaginary:
            with pytest.raises(CorpusError, match=realistic):
                simulate(config)
        else:
            simulate(config)
    rejects = [json.loads(line) for line in (tmp_path / "out/rejects.jsonl").read_text().splitlines()]
    reasons = {r["id"]: r["reason"] for r in rejects if r["id"].startswith("c0")}
    expected = {"c0.realistic": realistic, "c0.imaginary": imaginary}
    assert reasons == {id: reason for id, reason in expected.items() if reason}


def test_dialogues_are_read_behind_the_reasoning(tmp_path):
    """Every stage's model thinks aloud first, and its server leaves the marks in; nothing of that is kept."""
    outputs = []
    for name, before, behind in (("calm", "", ""), ("loud", "<think>\nHm {}.\n</think>\n\n", "<|im_end|>")):
        corpus(tmp_path / name, 2)

        def aloud(messages, before=before, behind=behind):
            reply = simulated_answers.answer(messages)
            return before + reply.replace("<think>", "").replace("</think>", "") + behind

        with endpoint(aloud) as server:
            simulate(SimulateConfig(**settings(tmp_path / name, server)))
        outputs.append((tmp_path / name / "out/manifest.jsonl").read_text())
    assert outputs[0] == outputs[1] and "im_end" not in outputs[1] and "Hm {}" not in outputs[1]


MARKED = "What <think>is</think> the weather like?"


@pytest.mark.parametrize(
    "stage, answered, reasons",
    [
        ("requests", {"realistic": REALISTIC + "<|im_end|>"}, {"markup_requests"}),
        ("requests", "<think>" + json.dumps({"persona": 1}), {"markup_requests"}),
        ("reasoning", f"<think>{REASONING}", {"markup_reasoning"}),
        ("reasoning", REASONING + "<|im_start|>user", {"markup_reasoning"}),
        ("judge", "<think>" + marks(), {"markup_judgement"}),
        ("question", {"question": MARKED}, {"markup_question"}),
        (
            "question",
            json.dumps({"question": MARKED, "answer": "Rain."}).replace("<", "\\u003c"),
            {"markup_question"},
        ),
        ("question", {"answer": "Rain.\x07"}, {"unprintable_question"}),
        ("evidence", EVIDENCE + "<codec_layer0_pad> and so on", {"markup_evidence"}),
        ("judge_answer", "<|channel|>analysis<|message|>" + marks(4, UNDERSTANDING), {"markup_judgement"}),
    ],
)
def test_markup_in_any_stage_is_counted(tmp_path, stage, answered, reasons):
    corpus(tmp_path, 1)
    with endpoint(answering(stage, answered)) as server:
        simulate(SimulateConfig(**settings(tmp_path, server)))
    clips, dropped, _ = result(tmp_path)
    assert {reason for id, reason in dropped.items() if id.startswith("c0")} == reasons
    assert not any("<|" in str(clip.dialogue) or "codec" in str(clip.dialogue) for clip in clips.values())


def test_captions_with_markup_are_not_simulated_from(tmp_path):
    corpus(tmp_path, 1, caption="<think>Hm.</think> Rain.")
    with endpoint(simulated_answers.answer) as server, pytest.raises(CorpusError, match="caption_markup 3"):
        simulate(SimulateConfig(**settings(tmp_path, server, max_reject_frac=1.0)))


def test_an_error_in_one_style_costs_that_dialogue_alone(tmp_path, monkeypatch):
    corpus(tmp_path, 1)
    check = requesting.check_request

    def failing(request, *rest):
        if request == REALISTIC:
            raise LookupError("a fault of the program")
        check(request, *rest)

    monkeypatch.setattr(requesting, "check_request", failing)
    with endpoint(simulated_answers.answer) as server:
        simulate(SimulateConfig(**settings(tmp_path, server)))
    clips, dropped, _ = result(tmp_path)
    assert sorted(clips) == ["c0.imaginary", "c0.understanding"]
    assert dropped["c0.realistic"] == "error_LookupError"


def test_transcripts_come_from_the_annotation_where_there_is_one(tmp_path):
    turn = {"speaker": "s", "start": 0.0, "end": 0.1, "text": "Quite other words!"}
    annotation = {"duration": 0.2, "turns": [turn], "speakers": [{"id": "s"}]}
    corpus(tmp_path, 1, annotation=annotation)
    with (
        endpoint(simulated_answers.answer) as server,
        pytest.raises(CorpusError, match="transcript_changed 2"),
    ):
        simulate(SimulateConfig(**settings(tmp_path, server, max_reject_frac=1.0), kinds=("generation",)))
    assert '- "Quite other words!"' in server.asked[0]["messages"][0]["content"]


def test_an_annotation_that_cannot_be_read_is_counted(tmp_path):
    corpus(tmp_path, 1, annotation={"duration": 0.2, "turns": [{"text": "No speaker."}]})
    with endpoint(simulated_answers.answer) as server, pytest.raises(CorpusError, match="bad_annotation 3"):
        simulate(SimulateConfig(**settings(tmp_path, server, max_reject_frac=1.0)))


def test_faults_along_the_way_change_nothing_but_the_bill(tmp_path):
    faults = ["cut", "broken_json", "too_many", "server_error", "no_choices"]
    manners = ["hang", *faults, *[GOOD] * 4, *faults, *[GOOD] * 9]
    outputs = []
    for name, manner in (("calm", lambda *_: GOOD), ("stormy", lambda number, _: manners[number % 24])):
        corpus(tmp_path / name, 6)
        with endpoint(simulated_answers.answer, manner) as server:
            simulate(SimulateConfig(**settings(tmp_path / name, server, seconds=2.0, attempts=20)))
            assert set(server.paid.values()) == {1}
        outputs.append(
            [(tmp_path / name / "out" / f).read_bytes() for f in ("manifest.jsonl", "rejects.jsonl")]
        )
        journal = (tmp_path / name / "out/answers.jsonl").read_text().splitlines()
        assert len(journal) == len(server.asked)
    assert outputs[0][0] == outputs[1][0]
    assert outputs[0][1].replace(b"calm", b"stormy") == outputs[1][1]


def test_a_killed_job_pays_for_nothing_twice(tmp_path):
    corpus(tmp_path, 8)
    with endpoint(simulated_answers.answer, lambda number, _: GOOD if number < 13 else "hang") as server:
        flags = {
            "SimulateConfig.corpora": (f"{tmp_path}/in",), "SimulateConfig.output": f"{tmp_path}/out",
            "SimulateConfig.endpoint": "@Endpoint()", "Endpoint.url": server.url, "Endpoint.model": "m",
            "Endpoint.concurrency": 4,
        }  # fmt: skip
        command = [
            sys.executable,
            "-m",
            "bagpiper_jax",
            "simulate_dialogues",
            *(f"--gin.{k}={v}" for k, v in flags.items()),
        ]
        job = subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
        journal, deadline = tmp_path / "out/answers.jsonl", time.monotonic() + 60
        while not (journal.exists() and journal.read_bytes().count(b"\n") == 13 and server.under_way == 4):
            assert job.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        job.send_signal(signal.SIGKILL)
        job.wait()
        assert not (tmp_path / "out/manifest.jsonl").exists() and sum(server.paid.values()) == 13
        server.release.set()
        server.manner = lambda *_: GOOD
        assert subprocess.run(command, cwd=REPOSITORY).returncode == 0
        assert set(server.paid.values()) == {1} and sum(server.paid.values()) == 8 * 8
    killed = (tmp_path / "out/manifest.jsonl").read_bytes()
    with endpoint(simulated_answers.answer) as server:
        corpus(tmp_path / "other", 8)
        simulate(SimulateConfig(**settings(tmp_path / "other", server, concurrency=3)))
    assert killed == (tmp_path / "other/out/manifest.jsonl").read_bytes()
