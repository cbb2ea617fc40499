"""Word errors and what is made of transcripts before, against official results, jiwer and whisper-normalizer."""

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st
from official_results import golden

from bagpiper_jax.evaluation.metrics.words import chinese_numbers, spoken_text, transcripts
from bagpiper_jax.evaluation.metrics.words.word_errors import WordErrors, mean_rate, total_rate, word_errors

_ASR, _SEED = golden("asr_wer"), golden("seed_tts_eval")
_ENGLISH = [pair for pair in _ASR["pairs"] if pair["lang"] == "en"]
_WORDS = st.lists(st.sampled_from("abcde"), max_size=12)


def _errors(rule, pair: dict) -> WordErrors:
    return word_errors(rule(pair["reference"], pair["lang"]), rule(pair["hypothesis"], pair["lang"]))


@pytest.mark.parametrize("suite", ["qwen2_audio", "lmms", "kimi"])
def test_pairs_are_scored_as_qwen2_audio_and_its_kin_score_them(suite):
    results = _ASR["results"][suite]
    for pair, result in zip(_ASR["pairs"], results["pairs"], strict=True):
        assert _errors(transcripts.qwen2_audio, pair).rate == pytest.approx(result["wer"], abs=1e-12), pair
    total = total_rate(_errors(transcripts.qwen2_audio, pair) for pair in _ENGLISH)
    assert total == pytest.approx(results["total"]["en"], abs=1e-12)


def test_words_of_qwen2_audio_are_those_of_its_normalizers():
    for pair, result in zip(_ENGLISH, _ASR["results"]["qwen2_audio"]["pairs"], strict=False):
        said = [transcripts.qwen2_audio(pair[side]) for side in ("reference", "hypothesis")]
        assert said == [text.split() for text in result["english_then_basic"]]


def test_chinese_is_written_as_qwen2_audio_writes_it():
    pairs = zip(_ASR["pairs"], _ASR["results"]["qwen2_audio"]["pairs"], strict=True)
    for pair, result in (each for each in pairs if each[0]["lang"] == "zh"):
        for side, official in zip(("reference", "hypothesis"), result["chinese"], strict=True):
            assert "".join(transcripts.qwen2_audio(pair[side], "zh")) == official.replace(" ", "").lower()


@pytest.mark.parametrize(
    "written, said",
    [  # what cn_tn.py gives for sentences of ours
        ("会议在1999年2月20日或09年3月15号", "会议在一九九九年二月二十日或零九年三月十五号"),
        ("一共12块5，比34.5元少", "一共十二块五，比三十四点五元少"),
        ("拨打13912345678或010-65432100。", "拨打一三九一二三四五六七八或零一零六五四三二一零零。"),
        ("3/8的人，80.03％", "八分之三的人，百分之八十点零三"),
        ("22个、200个、2022个、10200个", "二十二个、两百个、两千零二十二个、一万零二百个"),
        ("编号27149和1012", "编号二七一四九和一零一二"),
        ("1012人，0.5和3.1415", "一零一二人，零点五和三.一四一五"),
        ("B2C和MP3", "B2C和MP三"),
        ("120000公里，1.5千米", "一二零零零零公里，一点五千米"),
        ("258925在天8年", "二十五八九百二十五在天八年"),
    ],
)
def test_numbers_are_written_out_as_the_script_does(written, said):
    """Its slips included: in the last the 8 that is meant is not the first that stands there."""
    assert chinese_numbers.spoken(written) == said


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
