"""Scores and distances against counts done by hand."""

import numpy as np
import pytest
from event_annotations import annotation

from bagpiper_jax.captions import (
    Acoustics,
    AudioAnnotation,
    SoundEvent,
    Speaker,
    Turn,
    describe,
    parse_caption,
)
from bagpiper_jax.captions.parsing import facts
from bagpiper_jax.corpora import questions
from bagpiper_jax.evaluation.benchmarks.protocol import Score
from bagpiper_jax.evaluation.benchmarks.scenes import agreement
from bagpiper_jax.evaluation.metrics import caption_agreement, waveforms


def scored(value, baseline, goal=None, **further) -> Score:
    return Score("", value, "%", 8, 8, baseline=baseline, goal=goal, **further)


def test_caption_scores_count_what_they_say():
    truth = [
        facts(annotation("dog bark", "speech")),
        facts(annotation("music")),
        facts(annotation("rain", "rain")),
    ]
    heard = [
        facts(annotation("dog bark", "speech", words="one six")),
        facts(annotation("rain")),
        facts(annotation("rain", "dog bark")),
    ]
    training = [facts(annotation("rain", "rain"))] * 3 + [
        facts(annotation("speech", words="two two one"))
    ] * 2
    best = [facts(annotation("dog bark", "speech")), facts(annotation("music")), facts(annotation("rain"))]
    found = agreement.caption_scores(heard, truth, training, ceiling=best)
    third = 100 * (1 / 3)
    values = {
        score.name: (score.value, score.baseline, score.deaf, score.ceiling, score.expected)
        for score in found
    }
    # The deaf model has rain, then rain and dog bark, then dog bark and speech.
    assert values == {
        "kinds_in_order": (third, third, 0, 2 * third, 3),
        "kind_set": (third, third, 0, 2 * third, 3),
        "kind_per_place": (60, 40, 0, 80, 5),
        "event_count": (100, 2 * third, third, 2 * third, 3),
        "spoken_words": (50, 50, 0, 100, 2),
    }
    assert [score.goal for score in found[:2]] == [90.0, None]
    # The same captions one by one: a third of them has its kinds right, and half of the words are said in the first.
    told = [agreement.told(*pair) for pair in zip(heard, truth, strict=True)]
    assert [each["kinds_in_order"] for each in told] == [1, 0, 0]
    assert [each.get("spoken_words") for each in told] == [1 / 2, None, None]


def test_of_one_clip_there_is_no_deaf_control():
    said = [facts(annotation("rain"))]
    assert {score.deaf for score in agreement.caption_scores(said, said, said)} == {None}
    assert agreement.rotated("abc") == ["b", "c", "a"] and agreement.rotated(["a"]) is None


def test_a_perfect_caption_scores_one():
    said = [annotation("dog bark", "speech", "music"), annotation("speech", words="three four")]
    heard = [parse_caption(describe(a)) for a in said]
    found = agreement.caption_scores(heard, [facts(a) for a in said], [facts(said[0])])
    assert {score.value for score in found} == {100.0}


def test_common_in_order_is_the_longest_common_subsequence():
    assert caption_agreement.common_in_order("abcd", "acbd") == 3
    assert caption_agreement.common_in_order("", "abc") == caption_agreement.common_in_order("abc", "") == 0
    # The example of Wagner and Fischer's algorithm in Cormen et al., Introduction to Algorithms, 15.4.
    assert caption_agreement.common_in_order("ABCBDAB", "BDCABA") == 4
    # Words count as wholes, however long or strange.
    assert caption_agreement.common_in_order(("a", "ab", "", "été"), ("ab", "a", "été")) == 2
    assert caption_agreement.common_in_order(("a b",), ("a", "b")) == 0


def test_answers_are_compared_with_the_most_frequent_answer_to_the_same_question():
    asked = [("How many?", "Two."), ("How many?", "Three."), ("First?", "rain.")]
    training = [("How many?", "Three.")] * 2 + [("How many?", "Two."), ("First?", "siren.")]
    given = ["two", " THREE.", "rain or siren"], asked, training, ["Three."] * 3, ["Two.", "Three.", "Rain."]
    score = agreement.answer_score(*given)
    assert (score.value, score.baseline, score.expected) == pytest.approx((200 / 3, 100 / 3, 3))
    assert (score.deaf, score.ceiling, score.goal) == pytest.approx((100 / 3, 100, 80))
    topics = agreement.answers_by_topic(*given)
    assert [(s.name, s.value, s.expected, s.baseline, s.deaf, s.ceiling, s.goal) for s in topics] == [
        ("First?", 0, 1, 0, 0, 100, 20), ("How many?", 100, 2, 50, 50, 100, 70)
    ]  # fmt: skip


@pytest.mark.parametrize("shares, goal", [((3, 4), 90), ((71, 100), 90), ((1, 4), 45)])
def test_the_goal_of_a_topic_lies_above_its_own_baseline(shares, goal):
    """Twenty points, or nine tenths where the baseline is above 70 %."""
    right, count = shares
    asked = [("speech", "Yes.")] * right + [("speech", "No.")] * (count - right)
    (score,) = agreement.answers_by_topic(["Yes."] * count, asked, [("speech", "Yes.")])
    assert score.baseline == 100 * (right / count) and score.goal == pytest.approx(goal)


@pytest.mark.parametrize(
    "score, reached",
    [
        (scored(90, 10, 90, deaf=20), True),
        (scored(100 * (8 / 15), 100 / 3, 100 / 3 + 20), True),
        (scored(89, 10, 90), False),
        (scored(95, 95, 90), False),
        (scored(95, 10, 90, deaf=95), False),
        (scored(2.0, 5.0, 3.0, higher_is_better=False), True),
        (scored(None, 10, 90), False),
        (scored(float("nan"), 10, 90), False),
        (scored(95, 10), False),
    ],
)
def test_a_goal_is_reached_only_ahead_of_its_controls(score, reached):
    assert score.reached is reached


def test_final_answer_needs_the_reasoning_to_end():
    assert questions.final_answer("caption\n<think>x</think>\n\nTwo.") == "Two."
    assert questions.final_answer("caption\n<think>never ends Two.") == ""


def test_mel_distance_ignores_level_and_sees_noise():
    rng = np.random.default_rng(0)
    tone = np.sin(np.arange(16000) * 0.3).astype(np.float32)
    assert waveforms.mel_distance(tone, tone * 0.25) < 0.2
    assert waveforms.mel_distance(tone, rng.normal(size=16000).astype(np.float32)) > 10
    assert np.isnan(waveforms.mel_distance(tone, tone[:10]))


def test_codebook_use_of_uniform_and_constant_codes():
    codes = [np.stack([np.arange(64) % 8, np.zeros(64, int)], axis=1)]
    assert waveforms.codebook_use(codes, 8) == [
        {"used": 1.0, "perplexity": pytest.approx(8)}, {"used": 1 / 8, "perplexity": pytest.approx(1)},
    ]  # fmt: skip


def test_what_captions_tell_of_a_mix_is_counted_where_the_room_is_known():
    """Two clips: a bell over speech, behind them rain; and speech alone. One caption misses overlap and background."""
    speech, bell = Turn("A", 0.0, 2.0, "one two"), SoundEvent("bell", 1.0, 3.0)
    rain = SoundEvent("rain", 0.0, 4.0, snr=20.0)
    hall, dry = Acoustics(room="an echoing hall", noise="a faint hiss"), Acoustics(room="a dry room")
    low, high = (Speaker("A", voice=(f"{pitch}-pitched",)) for pitch in ("low", "high"))
    mixed = AudioAnnotation(4.0, (speech,), (low,), (rain, bell), acoustics=hall)
    alone = AudioAnnotation(4.0, (speech,), (high,), acoustics=dry)
    missed = AudioAnnotation(
        4.0, (speech,), (low,), (SoundEvent("bell", 2.5, 3.0),), acoustics=Acoustics(room="an echoing hall")
    )
    truth = [facts(mixed), facts(alone)]
    heard = [parse_caption(describe(each)) for each in (missed, alone)]
    told = ("voices", "overlaps", "background", "acoustics")
    perfect, found = (
        {score.name: score for score in agreement.caption_scores(each, truth, truth[:1])}
        for each in (truth, heard)
    )
    assert [perfect[name].value for name in told] == [100.0] * 4
    assert [found[name].value for name in told] == [100.0, 50.0, 50.0, 50.0]
    # Given every time, the one training caption is right of itself.
    assert [(found[name].expected, found[name].baseline) for name in told] == [(2, 50.0)] * 4
    plain = [facts(annotation("dog bark", "speech"))]
    assert not set(told) & {score.name for score in agreement.caption_scores(plain, plain, plain)}
