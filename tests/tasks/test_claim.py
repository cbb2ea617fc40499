"""The experiment of docs/claim.md: its forms of dialogue, its runs, and its arithmetic."""

import sys
from pathlib import Path

import numpy as np
import pytest
from event_annotations import annotation
from scipy import stats
from task_helpers import clip

from bagpiper_jax.captions import describe
from bagpiper_jax.manifest import write_manifest
from bagpiper_jax.task_modules import load_task_modules

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks/claim"
ANSWERS = {"First comes speech.", "Speech, then piano.", '"one two".', "piano.", "Yes."}


def scene(name, *kinds, split="train"):
    events = annotation(*kinds)
    caption = describe(events, "flowing", np.random.default_rng(0))
    return clip(name, split, caption=caption, annotation=events.to_json())


@pytest.fixture(scope="module")
def claim():
    """The experiment's modules, imported as its scripts and the cache job import them."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        load_task_modules(["claim_forms"])
        import claim_forms
        import claim_runs
        import claim_scores
        import claim_summary

        yield {"forms": claim_forms, "runs": claim_runs, "scores": claim_scores, "summary": claim_summary}
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def heard(claim, tmp_path):
    """One clip of the corpus, whose other clip lends it a caption."""
    from tasks import settings

    (tmp_path / "embedded").mkdir()
    clips = [scene("a", "speech", "music"), scene("b", "dog bark"), scene("c", "bell", split="test")]
    write_manifest(tmp_path / "embedded", clips)
    settings.configure(settings.Settings(str(tmp_path)))
    return clips


@pytest.mark.parametrize(
    "form",
    ["answer", "caption_answer", "answer_caption", "foreign_caption_answer", "caption_reasoning_answer"],
)
def test_every_form_asks_the_same_and_its_answer_is_found_in_it(claim, heard, form):
    found = claim["forms"].understanding(heard[0], np.random.default_rng(1), form)
    answer = claim["scores"].ANSWER_IN[form]
    assert {answer(reply[2]) for _, _, reply in found} == ANSWERS
    captions = {name: each.caption for name, each in zip("abc", heard, strict=True)}
    for sound, question, reply in found:
        assert sound == ["user", "audio", "a"] and question[1] == "text"
        written = {name for name, caption in captions.items() if caption in reply[2]}
        assert written == {"answer": set(), "foreign_caption_answer": {"b"}}.get(form, {"a"})


def test_half_of_the_topics_are_never_asked_about_a_sound(claim, heard):
    forms = claim["forms"]
    every = {
        topic for topic, _ in forms.dialogues(heard[0], np.random.default_rng(0), forms.SEEN + forms.UNSEEN)
    }
    assert every == {"first", "order", "words", "instrument", "music", "last", "count", "key", "speech"}
    asked = {
        question[2] for _, question, _ in forms.understanding(heard[0], np.random.default_rng(0), "answer")
    }
    assert not any("last" in text or "How many" in text or "key" in text for text in asked)


def test_labels_tell_no_order(claim, heard):
    forms = claim["forms"]
    assert forms.labels(scene("x", "speech", "bell", "speech")) == forms.labels(scene("y", "bell", "speech"))


def test_requests_differ_by_the_caption_alone(claim, heard):
    forms = claim["forms"]
    with_caption = forms.request_caption_audio(heard[0], np.random.default_rng(3))
    without = forms.request_audio(heard[0], np.random.default_rng(3))
    assert [[request, sound] for request, _, sound in with_caption] == list(without)
    assert {text[2] for _, text, _ in with_caption} == {heard[0].caption}


def test_every_run_follows_its_parent_and_equal_examples_take_more_steps(claim):
    module = claim["runs"]
    lengths = {"claim_answer": 80.0, "claim_caption_answer": 120.0, "claim_caption_reasoning_answer": 240.0}
    lengths |= {"claim_request_audio": 100.0, "claim_request_caption_audio": 150.0}
    shares = {
        "embedded_audio_to_caption": 0.25,
        "embedded_caption_to_audio": 0.5,
        "claim_caption_answer": 0.25,
    }
    runs = module.runs(module.WHOLE, lengths | {f"share:{name}": share for name, share in shares.items()})
    made = set()
    for run in runs:
        assert run.pretrains or run.start in made
        made.add(run.directory)
    steps = {run.name: run.steps for run in runs if run.seed == 0}
    assert steps["base_nano_caption_answer_examples"] == 600
    assert steps["single_sounds_share"] == 750 and steps["single_sounds_whole"] == steps["unified"] == 1500
    summary = claim["summary"]
    named = {(c.first, c.what) for c in summary.COMPARISONS} | {
        (c.second, c.what) for c in summary.COMPARISONS
    }
    assert named <= {(run.name, what) for run in runs for what in run.scored}


def test_differences_are_paired_by_clip(claim):
    module, rng = claim["summary"], np.random.default_rng(0)
    Run = claim["runs"].Run
    right = {"answer": rng.random(200) < 0.3, "caption_answer": rng.random(200) < 0.8}
    scores = [
        (
            Run(f"base_nano_{form}", "", 1, scored=("questions",)),
            {"questions": [
                {"clip": f"clip{i // 2}", "seen": bool(i % 2), "right": bool(r), "deaf": False, "told": None}
                for i, r in enumerate(values)
            ]},
        )
        for form, values in right.items()
    ]  # fmt: skip
    seen, unseen = module.differences(scores)
    assert (seen["group"], unseen["group"]) == ("asked in training", "never asked")
    change = right["caption_answer"][1::2].astype(float) - right["answer"][1::2]
    assert seen["mean"] == pytest.approx(change.mean()) and seen["p"] < 1e-3
    theirs = stats.bootstrap([change], np.mean, method="percentile", rng=0).confidence_interval
    assert seen["interval"] == pytest.approx(tuple(theirs), abs=0.02)
    table = module.table({"rows": module.rows(scores), "differences": [seen, unseen]})
    assert f"| {100 * change.mean():+.1f} |" in table
