"""Multiple choice: the word-set rule and the letters against official results, options against what a reader sees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from official_results import golden

from bagpiper_jax.evaluation.metrics.choices import is_right
from bagpiper_jax.evaluation.metrics.letters import air_bench_letter, lmms_eval_letter
from bagpiper_jax.evaluation.metrics.options import Option, option
from bagpiper_jax.evaluation.metrics.reply_parts import ReplyParts, reply_parts

_FOUR = ("Violin", "Cello", "Flute", "Oboe")


@pytest.mark.parametrize("case", golden("mmau")["unit"], ids=lambda case: case["name"])
def test_word_sets_decide_as_mmau_does(case):
    assert is_right(case["prediction"], case["answer"], case["choices"]) is case["match"]


@pytest.mark.parametrize(
    "case",
    golden("air_bench")["foundation"]["single_responses"]["cases"],
    ids=lambda case: repr(case["response"]),
)
def test_letters_are_those_of_air_bench(case):
    # The right answer is A, and a record of which no letter is read is "unparsed".
    letter = air_bench_letter(case["response"])
    assert {"A": "right", None: "unparsed"}.get(letter, "wrong") == case["verdict"]


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"), ("b", None), ("(C)", "C"), ("C.", "C"), ("It is B. Violin", "B"), ("'D'", "D"),
        ("(A) or (C)", "A"),  # several in brackets, none between blanks: the first
        ("either A or C", "C"), ("E", None), ("", None), ("AB", None), ("I hear A violin B", "B"),
    ],
)  # fmt: skip
def test_letters_of_lmms_eval_are_found_or_none_is(reply, letter):
    assert lmms_eval_letter(reply) == letter


@pytest.mark.parametrize(
    ("answer", "place", "how"),
    [
        ("Cello", 1, "text"), ("  cello. ", 1, "text"), ("**Cello**", 1, "text"), ('"Cello"', 1, "text"),
        ("b", 1, "letter"), ("B.", 1, "letter"), ("(B)", 1, "letter"), ("[b]", 1, "letter"),
        ("B) because it hums", 1, "letter"),
        ("(b) Cello", 1, "letter_and_text"), ("B. Cello", 1, "letter_and_text"), ("b: cello", 1, "letter_and_text"),
        ("B Cello", 1, "letter_and_text"), ("Option B", 1, "letter"), ("\\boxed{B}", 1, "letter"),
        ("The answer is B.", 1, "letter"), ("The correct answer is: (B) Cello.", 1, "letter_and_text"),
        ("Answer: cello", 1, "text"), ("The answer is the option B", 1, "letter"),
        ("The answer is option A: violin.", 0, "letter_and_text"),
        ("One hears a cello here.", 1, "phrase"), ("I think it is (B), by its tone.", 1, "letter"),
        ("The violin is higher and the flute softer.\n\nAnswer: B", 1, "letter"),
        ("Cello.\nA violin would sound higher, an oboe sharper.", 1, "text"),
        ("A violin plays", 0, "phrase"),  # the article is no letter
        ("(B) Violin", None, "letter_against_text"), ("Violin or cello", None, "no_option"),
        ("Trumpet", None, "no_option"), ("F", None, "no_option"), ("", None, "no_answer"), ("**", None, "no_answer"),
    ],
)  # fmt: skip
def test_an_answer_means_one_option_or_none(answer, place, how):
    assert option(answer, _FOUR) == Option(place, how)


def test_choices_within_choices_and_equal_choices():
    assert option("It is not raining.", ("raining", "not raining")).place == 1
    assert option("an acoustic guitar", ("guitar", "acoustic guitar")).place == 1
    assert option("C minor", ("C# minor", "C minor")).place == 1
    assert option("in C# minor", ("C minor", "C# minor")).place == 1
    assert option("D", ("two", "three", "three", "one")).place == 3
    assert option("three", ("two", "three", "three")).place == 1
    assert option("Call and answer: both", ("Solo", "Call and answer: both", "Both")).place == 1
    assert option("Cello is the answer: ", ("...", "Cello")).place == 1
    # A choice may be a letter itself; then its text counts, not its place.
    assert option("A", ("C", "A", "G")).place == 1


@given(
    st.lists(st.text(st.characters(categories=("L", "N")), min_size=3, max_size=8), min_size=2, max_size=8),
    st.data(),
)
def test_every_way_of_naming_a_choice_means_it(choices, data):
    place = data.draw(st.integers(0, len(choices) - 1))
    letter, text = "ABCDEFGH"[place], choices[place]
    for form in ("{t}", "({x}) {t}", "{x}. {t}", "{x}: {t}", "Answer: {t}"):
        found = option(form.format(x=letter, t=text), choices)
        assert found.place is not None and choices[found.place].lower() == text.lower()


@given(st.text(max_size=80), st.lists(st.text(max_size=12), min_size=2, max_size=8))
def test_whatever_is_said_there_is_an_option_or_none(answer, choices):
    found = option(answer, choices)
    assert found.place is None or 0 <= found.place < len(choices)


@pytest.mark.parametrize(
    ("reply", "parts"),
    [
        ("B", ("", "", "B")),
        ("Caption of the audio: A bow.\n\n<think>\n- Plan: say it.\n</think>\n\nCello",
         ("Caption of the audio: A bow.", "- Plan: say it.", "Cello")),
        ("<think>strings</think>\n\nCaption: A bow.\n\nIt is long.\n\nCello",
         ("Caption: A bow.\n\nIt is long.", "strings", "Cello")),
        ("Caption of the audio: A bow.\n\nCello", ("Caption of the audio: A bow.", "", "Cello")),
        ("Caption of the audio: A cello.", ("Caption of the audio: A cello.", "", "")),
        ("strings</think>Cello", ("", "strings", "Cello")),
        ("A bow. <think>strings, perhaps a cel", ("A bow.", "strings, perhaps a cel", "")),
    ],
)  # fmt: skip
def test_replies_have_caption_reasoning_and_answer(reply, parts):
    assert reply_parts(reply) == ReplyParts(*parts)
