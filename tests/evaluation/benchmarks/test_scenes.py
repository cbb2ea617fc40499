"""The benchmarks of scenes: what is asked, what counts as right, and every score beside its controls."""

import dataclasses
import functools
import json
import shutil

import pytest
import scene_corpus
from known_evaluators import Known
from places import GOLDEN

from bagpiper_jax.errors import Explained
from bagpiper_jax.evaluation.benchmarks import registry
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.protocol import Reply
from bagpiper_jax.evaluation.benchmarks.scenes.captioning import Scenes
from bagpiper_jax.evaluation.benchmarks.scenes.corpus import Sizes, read_corpus
from bagpiper_jax.evaluation.benchmarks.scenes.dialogues import SceneDialogues
from bagpiper_jax.evaluation.running.judging import judge_all
from bagpiper_jax.evaluation.systems.protocol import CANNOT_BEGIN
from bagpiper_jax.manifest import read_manifest, write_manifest

SIZES = Sizes(clips=10, sounds=6, requests=5, seed=3)


JUDGES = Known(**scene_corpus.JUDGES)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return scene_corpus.write_scenes(tmp_path_factory.mktemp("corpus"), 24)


def table(benchmark, folder, changed=lambda item, reply: reply):
    """Section → name → score of the known model's replies, as a run judges and scores them."""
    items = list(benchmark.items())
    replies = [
        changed(item, scene_corpus.reply_to(item.id, item.asked, folder / f"{item.id}.wav")) for item in items
    ]
    found = {}
    for score in benchmark.official(judge_all(benchmark, items, replies)):
        if score.group[0] == "section":
            found.setdefault(score.group[1], {})[score.name] = score
    return found


def test_the_tables_are_those_of_the_evaluation_that_asked_by_itself(corpus, tmp_path):
    """tests/golden/scenes.json: what `evaluate` made of the same replies before the runner asked for it."""
    found = {}
    for kind in (Scenes, SceneDialogues):
        found |= table(kind(corpus, JUDGES, SIZES), tmp_path)
    stored = json.loads((GOLDEN / "scenes.json").read_text(encoding="utf-8"))
    assert found.keys() == stored.keys()
    for section, scores in stored.items():
        assert found[section].keys() == scores.keys()
        for name, numbers in scores.items():
            score, expected = found[section][name], numbers.pop("n")
            assert (score.scored, score.expected) == (expected, expected)
            # A sound goes through a file, which holds it to 16 bits.
            near = functools.partial(pytest.approx, rel=1e-3 if "mel" in name else 1e-12)
            for control, value in numbers.items():
                found_value = getattr(score, control)
                assert found_value == (value if value is None else near(value)), (name, control)


def test_controls_ask_the_same_of_the_next_clip_and_with_the_true_caption(corpus):
    items = list(SceneDialogues(corpus, JUDGES, SIZES).items())
    kinds = {kind: [i for i in items if i.record["kind"] == kind] for kind in ("question", "deaf", "told")}
    asked, deaf, told = ([item.asked for item in found] for found in kinds.values())
    assert len(asked) == 10 and len({item.id for item in items}) == len(items) == 3 * 10 + 2 * 5
    assert [each.text for each in asked] == [each.text for each in deaf] == [each.text for each in told]
    assert [each.clip for each in deaf] == [each.clip for each in (*asked[1:], asked[0])]
    assert {each.begun for each in (*asked, *deaf)} == {""}
    for each, item in zip(told, kinds["told"], strict=True):
        assert item.record["caption"] in each.begun and "<think>" not in each.begun
    requests = [item.asked for item in items if item.record["kind"].endswith("request")]
    assert all(each.wants == "audio" and each.clip is None for each in requests)
    assert [each.text for each in requests[:5]] == [each.text for each in requests[5:]]
    assert all("</think>" in each.begun for each in requests[5:])


def test_a_missing_reply_counts_as_wrong_and_has_its_fault(corpus, tmp_path):
    def lost(item, reply):
        return Reply(fault="endpoint_timeout") if item.id.endswith(("_c0", "_c1")) else reply

    whole = table(Scenes(corpus, JUDGES, SIZES), tmp_path)["Audio → caption"]["kinds_in_order"]
    found = table(Scenes(corpus, JUDGES, SIZES), tmp_path, lost)
    score = found["Audio → caption"]["kinds_in_order"]
    assert score.expected == whole.expected == 10 and score.value <= whole.value
    nothing = table(Scenes(corpus, JUDGES, SIZES), tmp_path, lambda *_: Reply(fault="endpoint_timeout"))
    assert nothing["Audio → caption"]["kinds_in_order"].value == 0
    assert nothing["Caption → audio → caption"]["cycle_kinds_in_order"].note == "endpoint_timeout"


def test_without_judges_captions_and_answers_are_still_scored(corpus, tmp_path):
    found = table(Scenes(corpus, Known(), SIZES), tmp_path)
    assert found["Audio → caption"]["kinds_in_order"].ceiling is None and "Codec" not in found
    lost = found["Caption → audio → caption"]["cycle_kinds_in_order"]
    assert lost.value is None and "captioner is not here" in lost.note
    assert found["Caption → audio → caption"]["generated_duration_error"].value > 0
    found = table(SceneDialogues(corpus, Known(), SIZES), tmp_path)
    assert found["Question → caption, reasoning, answer"]["answers"].ceiling is not None
    assert found["Request → reasoning, caption, audio"]["request_audio_kinds_in_order"].value is None


def test_a_system_that_cannot_begin_a_reply_has_no_ceiling(corpus, tmp_path):
    found = table(
        SceneDialogues(corpus, JUDGES, SIZES), tmp_path,
        lambda item, reply: CANNOT_BEGIN if item.asked.begun else reply,
    )  # fmt: skip
    whole = table(SceneDialogues(corpus, JUDGES, SIZES), tmp_path)
    for section, scores in found.items():
        for name, score in scores.items():
            assert score == dataclasses.replace(whole[section][name], ceiling=None)


def test_one_annotation_that_cannot_be_read_is_left_out_and_counted(corpus, tmp_path, caplog):
    """In the split that is scored, and in the training split; a clip that cannot be heard is a fault of its item."""
    shutil.copytree(corpus, tmp_path / "corpus")
    clips = list(read_manifest(tmp_path / "corpus"))
    clips[0] = dataclasses.replace(clips[0], annotation={"turns": 3})
    clips[-1] = dataclasses.replace(clips[-1], annotation={"x": []})
    write_manifest(tmp_path / "corpus", clips)
    found, whole = (read_corpus(folder, "test", 99) for folder in (tmp_path / "corpus", corpus))
    assert set(whole.by_id) - set(found.by_id) == {clips[0].id}
    assert len(found.training) == len(found.training_truth) == len(whole.training) - 1
    assert "clips left out: 2 AnnotationError" in caplog.text


def test_a_corpus_without_clips_to_score_is_refused(corpus, tmp_path):
    with pytest.raises(BenchmarkError, match="0 usable captioned clips in split 'validation'"):
        read_corpus(corpus, "validation", 4)
    for name in ("scenes", "scene_dialogues"):
        assert registry.open_benchmark(name, corpus, JUDGES).name == name
        with pytest.raises(Explained):
            registry.open_benchmark(name, tmp_path / "none", JUDGES)
