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
from bagpiper_jax.evaluation import acoustics, scores


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
    found = scores.caption_scores(heard, truth, training, ceiling=best)
    values = {
        name: (score.value, score.baseline, score.deaf, score.ceiling, score.n)
        for name, score in found.items()
    }
    # The deaf model has rain, then rain and dog bark, then dog bark and speech.
    assert values == {
        "kinds_in_order": (1 / 3, 1 / 3, 0, 2 / 3, 3),
        "kind_set": (1 / 3, 1 / 3, 0, 2 / 3, 3),
        "kind_per_place": (3 / 5, 2 / 5, 0, 4 / 5, 5),
        "event_count": (1.0, 2 / 3, 1 / 3, 2 / 3, 3),
        "spoken_words": (1 / 2, 1 / 2, 0, 1.0, 2),
    }
    assert found["kinds_in_order"].target == 0.9 and found["kind_set"].target is None


def test_of_one_clip_there_is_no_deaf_control():
    said = [facts(annotation("rain"))]
    assert {score.deaf for score in scores.caption_scores(said, said, said).values()} == {None}
    assert scores.rotated("abc") == ["b", "c", "a"] and scores.rotated(["a"]) is None


def test_a_perfect_caption_scores_one():
    said = [annotation("dog bark", "speech", "music"), annotation("speech", words="three four")]
    heard = [parse_caption(describe(a)) for a in said]
    found = scores.caption_scores(heard, [facts(a) for a in said], [facts(said[0])])
    assert {score.value for score in found.values()} == {1.0}


def test_common_in_order_is_the_longest_common_subsequence():
    assert scores.common_in_order("abcd", "acbd") == 3
    assert scores.common_in_order("", "abc") == scores.common_in_order("abc", "") == 0
    # The example of Wagner and Fischer's algorithm in Cormen et al., Introduction to Algorithms, 15.4.
    assert scores.common_in_order("ABCBDAB", "BDCABA") == 4
    # Words count as wholes, however long or strange.
    assert scores.common_in_order(("a", "ab", "", "été"), ("ab", "a", "été")) == 2
    assert scores.common_in_order(("a b",), ("a", "b")) == 0


def test_answers_are_compared_with_the_most_frequent_answer_to_the_same_question():
    asked = [("How many?", "Two."), ("How many?", "Three."), ("First?", "rain.")]
    training = [("How many?", "Three.")] * 2 + [("How many?", "Two."), ("First?", "siren.")]
    given = ["two", " THREE.", "rain or siren"], asked, training, ["Three."] * 3, ["Two.", "Three.", "Rain."]
    score = scores.answer_score(*given)
    assert (score.value, score.baseline, score.n) == (2 / 3, 1 / 3, 3)
    assert (score.deaf, score.ceiling, score.target) == (1 / 3, 1.0, 0.8)
    topics = scores.answers_by_topic(*given)
    assert {name: (s.value, s.n, s.baseline, s.deaf, s.ceiling) for name, s in topics.items()} == {
        "First?": (0, 1, 0, 0, 1), "How many?": (1, 2, 1 / 2, 1 / 2, 1)
    }  # fmt: skip
    assert (topics["First?"].target, topics["How many?"].target) == (0.2, 0.7)


@pytest.mark.parametrize("shares, target", [((3, 4), 0.9), ((71, 100), 0.9), ((1, 4), 0.45)])
def test_the_goal_of_a_topic_lies_above_its_own_baseline(shares, target):
    """Twenty points, or nine tenths where the baseline is above 70 %."""
    right, count = shares
    asked = [("speech", "Yes.")] * right + [("speech", "No.")] * (count - right)
    score = scores.answers_by_topic(["Yes."] * count, asked, [("speech", "Yes.")])["speech"]
    assert score.baseline == right / count and score.target == pytest.approx(target)


@pytest.mark.parametrize(
    "score, reached",
    [
        (scores.Score(0.9, 8, 0.1, 0.9, 0.2), True),
        (scores.Score(8 / 15, 15, 1 / 3, 1 / 3 + 0.2), True),
        (scores.Score(0.89, 8, 0.1, 0.9), False),
        (scores.Score(0.95, 8, 0.95, 0.9), False),
        (scores.Score(0.95, 8, 0.1, 0.9, deaf=0.95), False),
        (scores.Score(2.0, 8, 5.0, 3.0, higher_is_better=False), True),
        (scores.Score(float("nan"), 0, 0.1, 0.9), False),
        (scores.Score(0.95, 8, 0.1), False),
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
    assert acoustics.mel_distance(tone, tone * 0.25) < 0.2
    assert acoustics.mel_distance(tone, rng.normal(size=16000).astype(np.float32)) > 10
    assert np.isnan(acoustics.mel_distance(tone, tone[:10]))


def test_codebook_use_of_uniform_and_constant_codes():
    codes = [np.stack([np.arange(64) % 8, np.zeros(64, int)], axis=1)]
    assert acoustics.codebook_use(codes, 8) == [
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
    perfect, found = (scores.caption_scores(each, truth, truth[:1]) for each in (truth, heard))
    assert [perfect[name].value for name in told] == [1.0] * 4
    assert [found[name].value for name in told] == [1.0, 0.5, 0.5, 0.5]
    # Given every time, the one training caption is right of itself.
    assert [(found[name].n, found[name].baseline) for name in told] == [(2, 0.5)] * 4
    plain = [facts(annotation("dog bark", "speech"))]
    assert not set(told) & scores.caption_scores(plain, plain, plain).keys()
