"""Tuning data that contradicts itself is found, and what is merely said otherwise is not taken for it."""

import dataclasses

import numpy as np
import pytest

from bagpiper_jax.captions import AudioAnnotation, Music, SoundEvent, Speaker, Turn, describe
from bagpiper_jax.corpora import questions as q
from bagpiper_jax.corpora.contradictions import judge_caption, judge_dialogue
from bagpiper_jax.manifest import Clip

SCENE = AudioAnnotation(
    duration=4.0,
    turns=(Turn("A", 0.1, 0.6, "seven"),),
    speakers=(Speaker("A", voice=("low-pitched",)),),
    sounds=(SoundEvent("bell", 2.0, 2.8, "loud"),),
    music=(Music(0.8, 1.7, "E minor", 180.0, ("piano",)),),
)
QUIET = AudioAnnotation(1.0, sounds=(SoundEvent("dog bark", 0.0, 1.0),), absent=("speech", "music"))
FREE = "A dog barks while someone whistles a tune. There is no music."
LISTENS = ("user", "audio", "")


def dialogue(caption: str, question: str, answer: str, hears: bool = True) -> list[tuple[str, str, str]]:
    reply = f"Caption of the audio: {caption}\n\n<think>\nIt is read from the caption.\n</think>\n\n{answer}"
    return [*[LISTENS] * hears, ("user", "text", question), ("assistant", "text", reply)]


def judged(caption: str, question: str, answer: str) -> str:
    verdict = judge_dialogue(dialogue(caption, question, answer))
    assert verdict.judged + verdict.not_judged == 1 and len(verdict.faults) <= verdict.judged
    return verdict.faults[0].reason if verdict.faults else "sound" if verdict.judged else "open"


@pytest.mark.parametrize("question, right, other, wrong", [
    ("How many events are heard?", "Three.", "There are 3 of them.", "Two."),
    ("What is heard first?", "First comes speech.", "A voice.", "First comes bell."),
    ("What is heard last?", "Last comes bell.", "A ringing bell.", "A dog."),
    ("In which order do the events come?", "Speech, then piano, then bell.", "A voice, a piano, a bell.",
     "Piano, then speech, then bell."),
    ("In which order do the events come?", "Speech, then piano, then bell.", "speech, then piano, then bell",
     "Speech, then bell."),
    ("What is said?", '"seven".', 'The voice says "Seven!"', '"eight".'),
    ("Which instrument plays?", "piano.", "A piano.", "Flute."),
    ("In which key is the melody?", "E minor.", "It is in E minor.", "E major."),
    ("Is the melody slow, moderate or fast?", "It is fast.", "Fast!", "It is slow."),
    ("Is there any speech?", "Yes.", "yes, a low voice", "No."),
    ("is there any music", "Yes.", "Yes, a piano.", "No, there is none."),
])  # fmt: skip
@pytest.mark.parametrize("style", ["flowing", "attributes"])
def test_an_answer_is_compared_with_the_caption_s_facts(style, question, right, other, wrong):
    caption = describe(SCENE, style)
    assert judged(caption, question, right) == judged(caption, question, other) == "sound"
    assert judged(caption, question, wrong) == "contradicts_caption"


def test_what_a_caption_calls_absent_is_absent():
    for caption in (describe(QUIET), FREE):
        assert judged(caption, "Is there any music?", "Yes.") == "contradicts_caption"
        assert judged(caption, "Is there any music?", "No.") == "sound"


@pytest.mark.parametrize("caption, question, answer", [
    (describe(SCENE), "What mood is it?", "Calm."),
    (describe(SCENE), "How many events are heard?", "More than one might think."),
    (describe(SCENE), "What is heard first?", "Somebody."),
    (describe(SCENE), "What is said?", "A number."),
    (describe(SCENE), "Is there any music?", "A little."),
    (FREE, "How many events are heard?", "Two."),
    (FREE, "What is heard first?", "A whistle."),
    (FREE, "Is there any speech?", "No."),
    ("Silence.", "Is there any music?", "Yes."),
])  # fmt: skip
def test_what_no_fact_decides_is_not_judged(caption, question, answer):
    assert judged(caption, question, answer) == "open"


def test_a_fault_says_what_is_asked_what_is_answered_and_what_is_right():
    (fault,) = judge_dialogue(dialogue(describe(SCENE), "How many events are heard?", "Two.")).faults
    assert fault.detail == "'How many events are heard?' is answered 'Two.'; by the caption it is 'Three.'"


@pytest.mark.parametrize("hears", [True, False])
@pytest.mark.parametrize("caption", ["", "  \n"])
def test_an_empty_caption_and_a_question_without_audio_are_named(caption, hears):
    found = judge_dialogue(dialogue(caption, "Is there any music?", "Yes.", hears)).faults
    assert [f.reason for f in found] == ["empty_caption" if hears else "question_without_audio"]


def test_a_known_question_needs_audio_whatever_the_reply_and_a_chat_does_not():
    asks = [("user", "text", "Is there any music?"), ("assistant", "text", "Yes.")]
    assert [f.reason for f in judge_dialogue(asks).faults] == ["question_without_audio"]
    assert judge_dialogue([LISTENS, *asks]).faults == ()
    chat = [("user", "text", "Who wrote it?"), ("assistant", "text", "Bach.")]
    assert judge_dialogue(chat) == dataclasses.replace(judge_dialogue(chat), faults=(), not_judged=1)


def test_a_plan_without_a_caption_is_named():
    plan = [("user", "text", "Rain, please."), ("assistant", "text", "<think>\nRain.\n</think>\n\n "),
            ("assistant", "audio", "")]  # fmt: skip
    assert [f.reason for f in judge_dialogue(plan).faults] == ["empty_caption"]
    plan[1] = ("assistant", "text", "<think>\nRain.\n</think>\n\nA patter of rain.")
    assert judge_dialogue(plan).faults == ()


def test_every_answer_of_a_dialogue_is_judged():
    asked = dialogue(describe(SCENE), "Is there any music?", "Yes.")
    again = dialogue(describe(SCENE), "Is there any music?", "No.", hears=False)
    verdict = judge_dialogue([*asked, *again])
    assert verdict.judged == 2 and [f.reason for f in verdict.faults] == ["contradicts_caption"]


@pytest.mark.parametrize("annotation", [SCENE, QUIET])
def test_what_we_author_contradicts_nothing_and_is_judged(annotation):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        clip = Clip(
            "c", "train", "mixed", caption=describe(annotation, rng=rng), annotation=annotation.to_json()
        )
        made = [q.understanding_dialogue(clip, rng), q.generation_dialogue(clip, rng)]
        heard, requested = (judge_dialogue([tuple(message) for message in each]) for each in made)
        assert (heard.faults, heard.judged, requested.faults) == ((), 1, ())
        assert judge_caption(clip.caption, annotation).faults == ()


@pytest.mark.parametrize("caption, part", [
    (describe(QUIET), "there is no speech"),
    (FREE, "there is no music"),
    (describe(dataclasses.replace(SCENE, sounds=())), "lists speech, then piano, the annotation"),
    (describe(dataclasses.replace(SCENE, sounds=(SoundEvent("bell", 0.7, 0.75),))), "order is speech, then bell"),
    (describe(dataclasses.replace(SCENE, turns=(Turn("A", 0.1, 0.6, "two"),))), 'quotes "two"'),
])  # fmt: skip
def test_a_caption_that_contradicts_its_annotation_is_named(caption, part):
    found = judge_caption(caption, SCENE).faults
    assert part in found[0].detail and found[0].reason == "caption_contradicts_annotation"


def test_an_annotation_that_excludes_what_the_caption_lists_is_named():
    found = judge_caption(describe(dataclasses.replace(SCENE, turns=())), QUIET).faults
    assert found[0].detail == "the caption has music, the annotation says there is none"


def test_a_caption_in_free_words_is_no_fault():
    assert judge_caption("Someone says seven, a piano plays and at last a bell rings.", SCENE).faults == ()
