"""Words of transcripts, as suites compare them: before edits are counted, both sides are made alike.

Sources: `evaluate_asr.py` of QwenLM/Qwen2-Audio at 595360e8, whose numbers lmms-eval repeats; `text_normalizer` of
AudioLLMs/AudioBench at e991641d. Whisper's normalizers are those of the package whisper-normalizer; what needs them
raises MissingEvaluatorError where it is not installed.
"""

import functools
import re
import string
import unicodedata
from collections.abc import Callable

from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.metrics.words import chinese_numbers
from bagpiper_jax.evaluation.metrics.words.spoken_text import CHINESE_PUNCTUATION

_TAG = re.compile(r"<\|.*?\|>")
_SPACES = re.compile(r"\s+")
_BEFORE_MARK = re.compile(r"\s([!,.?;:])")
_NOT_PLAIN = re.compile(r"[^\w']|_")
_BRACKETED = re.compile(r"\[[^\]]*\]|<[^>]*>|\([^)]*\)|\{[^}]*\}")
_HESITATIONS = frozenset(("uh", "umm", "um", "er", "ah"))
_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
_TENS = "thirty forty fifty sixty seventy eighty ninety".split()
_NUMBERS = {str(n): word for n, word in enumerate(_SMALL)} | {
    f"{n}0": word for n, word in enumerate(_TENS, 3)
}
_NUMBER = re.compile(r"\b\d+\b")
_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation + CHINESE_PUNCTUATION, " "))
_BY_CHARACTER = ("zh", "yue", "ja", "th", "lo", "my")


def plain(text: str, language: str = "en") -> list[str]:
    """Words in upper case without punctuation, as LibriSpeech writes them; apostrophes stay, numbers too."""
    kept = _NOT_PLAIN.sub(" ", text.replace("’", "'").upper())
    return _divided(kept, language)


def qwen2_audio(text: str, language: str = "en") -> list[str]:
    """Words after Whisper's English and then its basic normalizer: numbers in digits, contractions written out.

    Of other languages the basic normalizer alone, but of Chinese the characters, with numbers written out.
    """
    text = _BEFORE_MARK.sub(r"\1", _SPACES.sub(" ", _TAG.sub(" ", text))).lstrip()
    if language == "zh":
        return _chinese(text)
    english, basic = _whisper()
    words = _divided(basic(english(text)) if language == "en" else basic(text), language)
    return [word for word in words if not all(map(_is_punctuation, word))]


def audiobench(text: str, language: str = "en") -> list[str]:
    """Words after Whisper's English normalizer, with small numbers written out and without hesitations.

    Punctuation is deleted after that, so that "3.5%" is "threefive". A text without words is the word "empty".
    """
    english, _ = _whisper()
    text = _NUMBER.sub(lambda found: _NUMBERS.get(found[0], found[0]), english(text.lower()))
    text = _BRACKETED.sub(" ", text)
    text = "".join(character for character in text if not _is_punctuation(character))
    return [word for word in text.split() if word not in _HESITATIONS] or ["empty"]


NORMALIZERS: dict[str, Callable[[str, str], list[str]]] = {
    "qwen2_audio": qwen2_audio,
    "audiobench": audiobench,
    "plain": plain,
}


def _chinese(text: str) -> list[str]:
    """Characters without punctuation, Latin letters in lower case."""
    words = chinese_numbers.spoken("".join(text.split())).translate(_PUNCTUATION).lower().split()
    return [*"".join(word for word in words if not all(map(_is_punctuation, word)))]


def _divided(text: str, language: str) -> list[str]:
    """Words; of languages that write none the characters."""
    return [*"".join(text.split())] if language in _BY_CHARACTER else text.split()


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character).startswith("P")


@functools.cache
def _whisper() -> tuple[Callable[[str], str], Callable[[str], str]]:
    try:
        from whisper_normalizer.basic import BasicTextNormalizer
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise MissingEvaluatorError(
            "Whisper's rules for text are not installed; run: pip install 'bagpiper_jax[evaluation]'"
        ) from error
    return EnglishTextNormalizer(), BasicTextNormalizer()
