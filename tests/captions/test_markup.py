"""Markup of chat templates: what is cut off a reply, what makes it useless, and that prose is left alone."""

import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bagpiper_jax.captions import AnnotationError, AudioAnnotation, CaptionFilter
from bagpiper_jax.captions.markup import (
    control_token_in,
    markup_in,
    without_end_marks,
    without_reasoning,
    without_wrapping,
)
from bagpiper_jax.corpora.user_records import parse
from bagpiper_jax.outcomes import RecordError
from bagpiper_jax.text import THINK_TOKENS
from bagpiper_jax.vocabulary import SPECIAL_NAMES, Vocabulary

PROSE = 'A dog barks twice. A woman says "come here", then rain falls.'
THOUGHT = "Okay, the user wants a caption.\n\nFirst I hear a dog (loud < near)."

CUT = [
    f"<think>\n{THOUGHT}\n</think>\n\n{PROSE}",
    f"{THOUGHT}\n</think>\n\n{PROSE}",
    f"</think>{PROSE}",
    f"<think></think>\n{PROSE}",
    f"<THINK>{THOUGHT}</THINK>{PROSE}",
    f"<think>{THOUGHT}</think><think>Again.</think>{PROSE}",
    f"<think>I write <think> tags.</think> Now.</think>{PROSE}",
    f"<thinking>{THOUGHT}</thinking>{PROSE}",
    f"<thought>{THOUGHT}</thought>{PROSE}",
    f"<reasoning>{THOUGHT}</reasoning>{PROSE}",
    f"<seed:think>{THOUGHT}</seed:think>{PROSE}<seed:eos>",
    f"[THINK]{THOUGHT}[/THINK]{PROSE}</s>",
    f"◁think▷{THOUGHT}◁/think▷{PROSE}",
    f"<|begin_of_thought|>{THOUGHT}<|end_of_thought|>{PROSE}",
    f"<|channel>thought\n{THOUGHT}<channel|>{PROSE}<turn|>",
    f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{PROSE}<|return|>",
    f"<|channel|>final<|message|>{PROSE}<|return|>",
    f"analysis{THOUGHT}assistantfinal{PROSE}",
    *(
        PROSE + end
        for end in (
            "<|im_end|>", "<|im_end|>\n<|endoftext|>\n", "<|endoftext|>", "</s>", "<|eot_id|>", "<|eom_id|>", "<|end|>",
            "<|end_of_text|>", "<end_of_turn>\n", "<eos>", "<｜end▁of▁sentence｜>", "<|END_OF_TURN_TOKEN|>",
            "[|endofturn|]", "<|eos|>", "<|eot|>", "<pad><pad>", " <|im_end|> ",
        )
    ),
]  # fmt: skip

USELESS = [
    f"<think>{THOUGHT} {PROSE}",
    f"< think >{THOUGHT}",
    f"<think/>{PROSE}",
    f"{PROSE} <think>{THOUGHT}</think> And rain.",
    f"<think>{THOUGHT}</think>{PROSE}<think>{THOUGHT}</think>{PROSE}",
    f"{PROSE}<|im_end|>\n<|im_start|>user\nThanks",
    f"<|im_start|>assistant\n{PROSE}",
    f"<s>{PROSE}",
    f"{PROSE}<|im_end",
    f"<answer>{PROSE}</answer>",
    f"<caption>{PROSE}",
    f"[INST]{PROSE}[/INST]",
    f"<<SYS>>{PROSE}",
    f'<function="describe">{PROSE}',
    f"<tool_call>{PROSE}",
    f"<|channel|>analysis<|message|>{PROSE}",
    f"<start_of_turn>model\n{PROSE}",
    f"<｜Assistant｜>{PROSE}",
    f"<br/>{PROSE}",
    f"<unk>{PROSE}",
    f"[gMASK]<sop>{PROSE}",
]


def spoken(reply: str) -> str:
    return without_end_marks(without_reasoning(reply)).strip()


@pytest.mark.parametrize("reply", CUT)
def test_reasoning_before_and_marks_behind_are_cut_off(reply):
    assert spoken(reply) == PROSE and markup_in(PROSE) is None


@pytest.mark.parametrize("reply", USELESS)
def test_what_cannot_be_cut_off_is_named(reply):
    mark = markup_in(spoken(reply))
    assert mark and mark in reply


def test_every_name_of_our_vocabulary_is_markup():
    vocabulary = Vocabulary()
    codec = (vocabulary.describe(id) for id in (vocabulary.codec_start, vocabulary.size - 1))
    for name in (*SPECIAL_NAMES, *THINK_TOKENS, vocabulary.describe(200), *codec):
        assert markup_in(f"A dog {name} barks.") == name
        assert name in THINK_TOKENS or control_token_in(f"A dog {name} barks.") == name


@pytest.mark.parametrize(
    "text", ["I love it <3", "x < y > z", "a <b and c> d", "2 <3 and 4> 1", "[music] plays", "a -> b <- c", "<>", "|"]
)  # fmt: skip
def test_prose_with_odd_characters_has_no_markup(text):
    assert markup_in(text) is None and control_token_in(text) is None and spoken(text) == text


def test_real_captions_are_left_as_they_are(demo_clips):
    for line in (demo_clips / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        caption = json.loads(line)["caption"]
        assert markup_in(caption) is None and spoken(caption) == caption.strip()


@given(st.lists(st.sampled_from([*THINK_TOKENS, "<|im_end|>", "a ", "<", "|>"])))
def test_what_is_left_ends_a_reply_or_is_named(parts):
    text = "".join(parts)
    left = spoken(text)
    assert left in text and spoken(left) == left or markup_in(left)


def test_long_hostile_replies_take_linear_time():
    started = time.monotonic()
    for part in ("</think>", "<|im_end|>", "<think>", " ", "<a ", "<|", "[|", "<|channel|>final", "<"):
        for look in (spoken, markup_in, control_token_in, without_wrapping):
            look(part * (200_000 // len(part)) + "a")
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "text, inside",
    [
        (f"<think>{PROSE}</think>", PROSE),
        (f"<think>{THOUGHT}</think>{PROSE}", f"<think>{THOUGHT}</think>{PROSE}"),
        (PROSE, PROSE),
    ],
)
def test_a_trace_may_come_in_its_marks(text, inside):
    assert without_wrapping(text) == inside


def test_the_default_filter_refuses_captions_with_markup():
    rng = np.random.default_rng(0)
    words = " ".join("".join(rng.choice(list("abcdefghij"), rng.integers(3, 9))) for _ in range(250))
    assert CaptionFilter().reason(words, 10.0) is None
    for caption in (
        f"<think>{words}",
        f"{words}<|im_end|>",
        f"hm</think>{words}",
        f"{words}<codec_layer0_code17>",
    ):
        assert CaptionFilter().reason(caption, 10.0) == "markup"


@pytest.mark.parametrize(
    "fields",
    [
        {"audio": "a.wav", "caption": "<think>Hm.</think> A dog."},
        {"audio": "a.wav", "caption": "A dog.<|im_end|>"},
        {"text": "A document.<|endoftext|>Another one."},
        {"dialogue": [["user", "text", "Hi<|im_end|>"], ["assistant", "text", "Ho."]]},
        {"dialogue": [["user", "text", "Hi"], ["assistant", "text", "<codec_layer3_pad>"]]},
    ],
)
def test_a_users_records_with_markup_are_rejected_by_name(fields):
    with pytest.raises(RecordError, match="^markup: "):
        parse(fields, 1, 1000)


def test_a_users_document_may_hold_tags_and_operators():
    text = "In F#, x |> f is f <| x. <p>A <b>bold</b> word, <think> and [INST].</p>"
    assert parse({"text": text}, 1, 1000).text == text


def test_a_users_dialogue_may_reason():
    dialogue = [["user", "text", "Hi"], ["assistant", "text", "<think>\nHm.\n</think>\n\nHo."]]
    assert parse({"dialogue": dialogue}, 1, 1000).dialogue[1][2] == dialogue[1][2]


def test_marks_of_a_recogniser_are_no_transcript():
    said = {"speaker": "s", "start": 0.0, "end": 1.0, "text": "<|en|><|NEUTRAL|><|Speech|>good morning"}
    with pytest.raises(AnnotationError, match=r"text holds '<\|en\|>'"):
        AudioAnnotation.from_json({"duration": 2.0, "turns": [said], "speakers": [{"id": "s"}]})
