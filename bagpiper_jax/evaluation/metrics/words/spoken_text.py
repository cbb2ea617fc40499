"""Words of what a synthetic voice should say and of what a recogniser hears, by the rule of seed-tts-eval.

Source: `run_wer.py` and `average_wer.py` of BytedanceSpeech/seed-tts-eval at 752f4297; CV3-Eval has the same rule.
Punctuation is deleted, so a hyphen joins; numbers, contractions and Chinese capitals stay as they are.
"""

import string
from collections.abc import Sequence

from bagpiper_jax.evaluation.metrics.words.word_errors import WordErrors, word_errors

CHINESE_PUNCTUATION = (
    "＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､\u3000、〃〈〉《》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿"
    "–—‘’‛“”„‟…‧﹏﹑﹔·．！？｡。"
)
"""The punctuation of zhon 2.1.1, which is no category of Unicode: "’" is in it, and the ASCII apostrophe stays."""

_DELETED = str.maketrans("", "", CHINESE_PUNCTUATION + string.punctuation.replace("'", ""))


def spoken_words(text: str, language: str) -> list[str]:
    """The words of a text; of Chinese its characters, whose case stays.

    Args:
        language: "zh" for characters; any other has words.
    """
    kept = text.translate(_DELETED)
    return [*kept.replace(" ", "")] if language == "zh" else kept.lower().split()


def spoken_errors(reference: str, hypothesis: str, language: str) -> WordErrors:
    """The word errors of one utterance, by `spoken_words`."""
    return word_errors(spoken_words(reference, language), spoken_words(hypothesis, language))


def average(rates: Sequence[float]) -> float:
    """What the script prints in percent: the mean of the utterances' rates, to three places.

    Raises:
        ZeroDivisionError: there is no utterance.
    """
    return round(sum(rates) / len(rates) * 100, 3)
