"""Word errors and what is made of transcripts before, against official results, jiwer and whisper-normalizer."""

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st
from official_results import golden

from bagpiper_jax.evaluation.metrics import spoken_text, transcripts
from bagpiper_jax.evaluation.metrics.word_errors import WordErrors, mean_rate, total_rate, word_errors

_ASR, _SEED = golden("asr_wer"), golden("seed_tts_eval")
_ENGLISH = [pair for pair in _ASR["pairs"] if pair["lang"] == "en"]
_NUMBERS_IN_CHINESE = {"321", "2008", "5%"}
"""Digits that Qwen2-Audio writes out by rules that are in no package."""

_WORDS = st.lists(st.sampled_from("abcde"), max_size=12)


def _errors(rule, pair: dict) -> WordErrors:
    return word_errors(rule(pair["reference"], pair["lang"]), rule(pair["hypothesis"], pair["lang"]))


@pytest.mark.parametrize("suite", ["qwen2_audio", "lmms", "kimi"])
def test_pairs_are_scored_as_qwen2_audio_and_its_kin_score_them(suite):
    results, compared = _ASR["results"][suite], 0
    for pair, result in zip(_ASR["pairs"], results["pairs"], strict=True):
        if pair["lang"] == "en" or not any(digits in pair["hypothesis"] for digits in _NUMBERS_IN_CHINESE):
            assert _errors(transcripts.qwen2_audio, pair).rate == pytest.approx(result["wer"], abs=1e-12), (
                pair
            )
            compared += 1
    assert compared == 25
    total = total_rate(_errors(transcripts.qwen2_audio, pair) for pair in _ENGLISH)
    assert total == pytest.approx(results["total"]["en"], abs=1e-12)


def test_words_of_qwen2_audio_are_those_of_its_normalizers():
    for pair, result in zip(_ENGLISH, _ASR["results"]["qwen2_audio"]["pairs"], strict=False):
        said = [transcripts.qwen2_audio(pair[side]) for side in ("reference", "hypothesis")]
        assert said == [text.split() for text in result["english_then_basic"]]


def test_words_of_audiobench_are_those_of_its_normalizer():
    results = _ASR["results"]["audiobench"]
    for pair, result in zip(_ENGLISH, results["pairs"], strict=True):
        said = [" ".join(transcripts.audiobench(pair[side])) for side in ("reference", "hypothesis")]
        assert said == [result["reference"], result["hypothesis"]]
        assert _errors(transcripts.audiobench, pair).rate == pytest.approx(result["wer"], abs=1e-12)
    total = total_rate(_errors(transcripts.audiobench, pair) for pair in _ENGLISH)
    assert total == pytest.approx(results["total_wer"], abs=1e-12)


def test_plain_words_are_upper_case_and_nothing_else_changes():
    assert transcripts.plain("Don’t panic, it's 3.5%!") == ["DON'T", "PANIC", "IT'S", "3", "5"]
    assert transcripts.plain("今天 天气很好。", "zh") == ["今", "天", "天", "气", "很", "好"]


@pytest.mark.parametrize(
    "pair", _SEED["pairs"], ids=lambda pair: f"{pair['reference']} | {pair['hypothesis']}"
)
def test_spoken_text_is_scored_as_seed_tts_eval_scores_it(pair):
    found, result = (
        spoken_text.spoken_errors(pair["reference"], pair["hypothesis"], pair["lang"]),
        pair["result"],
    )
    if "error" in result:
        assert found.words == 0  # the script stops at an empty reference
        with pytest.raises(ZeroDivisionError):
            _ = found.rate
    else:
        assert found.rate == pytest.approx(result["wer"], abs=1e-12)


def test_spoken_text_has_the_very_punctuation_of_zhon():
    kept = _SEED["punctuation"]["kept"]
    every = {*_SEED["punctuation"]["zhon_hanzi"], *_SEED["punctuation"]["ascii"]} - {kept}
    assert spoken_text.spoken_words("".join(sorted(every)) + kept, "zh") == [kept]


@pytest.mark.parametrize("case", _SEED["average"], ids=lambda case: case["name"])
def test_averages_are_printed_as_seed_tts_eval_prints_them(case):
    rates = [float(line.split("\t")[1]) for line in case["lines"]]
    assert f"WER: {spoken_text.average(rates)}%" == case["result"]["stdout"]


@given(_WORDS.filter(bool), _WORDS)
def test_edits_are_those_of_jiwer(reference, hypothesis):
    found, theirs = (
        word_errors(reference, hypothesis),
        jiwer.process_words(" ".join(reference), " ".join(hypothesis)),
    )
    assert vars(found) == {
        "substitutions": theirs.substitutions,
        "deletions": theirs.deletions,
        "insertions": theirs.insertions,
        "words": len(reference),
    }
    assert found.rate == theirs.wer


@given(st.lists(st.tuples(_WORDS.filter(bool), _WORDS), min_size=1, max_size=6))
def test_total_rates_are_those_of_jiwer(pairs):
    total = total_rate(word_errors(*pair) for pair in pairs)
    assert total == pytest.approx(
        jiwer.wer(*([" ".join(words) for words in side] for side in zip(*pairs, strict=True)))
    )


def test_rates_of_nothing_are_none():
    empty = word_errors([], ["a", "b"])
    assert (
        empty.edits == 2
        and total_rate([]) is None
        and total_rate([empty]) is None
        and mean_rate([empty]) is None
    )
    assert total_rate([empty, word_errors(["a"], ["a"])]) == 2.0
    assert mean_rate([word_errors(["a"], []), word_errors(["a", "b", "c"], ["a", "b", "c"])]) == 0.5
