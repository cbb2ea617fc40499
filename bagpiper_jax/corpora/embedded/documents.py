"""Plain text about sounds and counting, written by templates: the text-only records of the embedded corpus."""

import numpy as np

from bagpiper_jax.captions.lexicon import SOUND_NOUNS, number_word, with_article
from bagpiper_jax.corpora.embedded.music import INSTRUMENTS, KEYS
from bagpiper_jax.corpora.embedded.voice import DIGITS, NOUNS, WORDS
from bagpiper_jax.manifest import Clip

_HELD_OUT_EVERY = 10


def clips(count: int, seed: int) -> list[Clip]:
    """Distinct documents; every tenth is held out for validation."""
    rng = np.random.default_rng([seed, 4])
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts.setdefault(write_document(rng))
    return [
        Clip(
            id=f"text-{index:05d}",
            split="validation" if index % _HELD_OUT_EVERY == 0 else "train",
            domain="text",
            text=text,
            source="embedded",
            licence="CC0-1.0 (generated)",
        )
        for index, text in enumerate(texts)
    ]


def write_document(rng: np.random.Generator) -> str:
    """Two or three short passages on different matters."""
    writers = rng.permutation(len(_WRITERS))[: rng.integers(2, 4)]
    return " ".join(_WRITERS[writer](rng) for writer in writers)


def _sum(rng) -> str:
    first, second = rng.integers(0, 6), rng.integers(0, 5)
    return f"{number(first).capitalize()} and {number(second)} make {number(first + second)}."


def _counting(rng) -> str:
    start, length = rng.integers(0, 5), rng.integers(3, 6)
    return "Counting up gives " + ", ".join(DIGITS[start : start + length]) + "."


def _order(rng) -> str:
    first, second = rng.permutation(list(SOUND_NOUNS))[:2]
    return f"First comes the {first}, then the {second}, so the {first} is heard before the {second}."


def _spelling(rng) -> str:
    word = WORDS[rng.integers(len(WORDS))]
    return f'The word "{word}" has {number_word(len(word))} letters: {" ".join(word)}.'


def _sound(rng) -> str:
    label = list(SOUND_NOUNS)[rng.integers(len(SOUND_NOUNS))]
    level = ("loud", "soft")[rng.integers(2)]
    return f"What is {with_article(SOUND_NOUNS[label][1])}? It is a sound, and it may be {level}."


def _music(rng) -> str:
    instrument, key = INSTRUMENTS[rng.integers(len(INSTRUMENTS))], list(KEYS)[rng.integers(len(KEYS))]
    player = with_article(instrument).capitalize()
    return f"{player} makes music. A melody in {key} begins and ends on {key.split()[0]}."


def _speech(rng) -> str:
    word, voice = NOUNS[rng.integers(len(NOUNS))], ("low-pitched", "high-pitched")[rng.integers(2)]
    return f'Somebody with a {voice} voice says "{word}". That is speech.'


def number(value: int) -> str:
    return "zero" if value == 0 else number_word(int(value))


_WRITERS = (_sum, _counting, _order, _spelling, _sound, _music, _speech)
