"""The words that prose and parsing share, so that what one writes the other reads."""

import re

SOUND_NOUNS = {
    "dog bark": ("dog bark", "barking dog"),
    "bell": ("bell", "ringing bell"),
    "rain": ("burst of rain", "patter of rain"),
    "siren": ("siren", "wailing siren"),
    "knock": ("knock on wood", "knock on a door"),
    "wind": ("gust of wind", "rush of wind"),
    "whistle": ("whistle", "shrill whistle"),
    "engine": ("running engine", "rumbling engine"),
    "breaking glass": ("crash of glass", "breaking glass"),
    "footsteps": ("pair of footsteps", "run of footsteps"),
    "hand clap": ("hand clap", "clap of hands"),
    "clock": ("ticking clock", "clock tick"),
    "bird": ("chirping bird", "bird chirp"),
    "car horn": ("car horn", "honking horn"),
}
"""Singular noun phrases, without article, of the sounds that have more than one name. Any other label is
described as `sound of <label>`."""

BACKGROUND_NOUNS = {
    "rain": "falling rain",
    "wind": "blowing wind",
    "engine": "a running engine",
    "clock": "a ticking clock",
    "bird": "chirping birds",
}
"""Of sounds that go on. Any other label is described as `the sound of <label>`."""

SOUND_CUES = {
    "dog bark": r"dog|bark\w*",
    "bell": r"bells?",
    "rain": r"rain",
    "siren": r"sirens?",
    "knock": r"knock\w*",
    "wind": r"wind",
    "whistle": r"whistl\w+",
    "engine": r"engine",
    "breaking glass": r"glass",
    "footsteps": r"footsteps?",
    "hand clap": r"claps?|clapping",
    "clock": r"clock|tick\w*",
    "bird": r"birds?|chirp\w*",
    "car horn": r"horn|honk\w*",
}
"""What betrays each sound in a loosely worded clause; `sound of <label>` is understood besides."""

SPEECH = "speech"
UNNAMED_INSTRUMENT = "music"

LANGUAGES = {
    "en": "English", "es": "Spanish", "fr": "French", "it": "Italian", "ru": "Russian", "de": "German",
    "cs": "Czech", "nl": "Dutch", "pt": "Portuguese", "zh": "Chinese", "ja": "Japanese", "ko": "Korean",
}  # fmt: skip

_TEMPO_BOUNDS = ((90.0, "slow"), (130.0, "moderate"), (float("inf"), "fast"))
TEMPO_WORDS = tuple(word for _, word in _TEMPO_BOUNDS)

_STRENGTH_BOUNDS = ((8.0, "strongly"), (16.0, "clearly"), (float("inf"), "faintly"))
STRENGTHS = tuple(word for _, word in _STRENGTH_BOUNDS)

ROOM_SECONDS = {"a dry room": 0.0, "an echoing hall": 1.2}
"""Rooms in which scenes are mixed, and in how many seconds their sound dies away by 60 dB."""

NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def tempo_word(beats_per_minute: float) -> str:
    """slow below 90, moderate below 130, else fast."""
    return next(word for bound, word in _TEMPO_BOUNDS if beats_per_minute < bound)


def strength_word(snr: float) -> str:
    """How a background is heard that lies so many decibels below speech: strongly below 8, clearly below 16."""
    return next(word for bound, word in _STRENGTH_BOUNDS if snr < bound)


def number_word(count: int) -> str:
    """The English word up to ten, digits beyond."""
    return NUMBER_WORDS[count] if count < len(NUMBER_WORDS) else str(count)


def with_article(noun_phrase: str) -> str:
    """Puts "a" or "an" before a noun phrase, judged by its first letter."""
    return ("an " if noun_phrase[:1].lower() in "aeiou" else "a ") + noun_phrase


def listing(items) -> str:
    """ "a", "a and b", "a, b and c"."""
    items = list(items)
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def quoted(text: str) -> str:
    """A transcript between double quotes, on one line; double quotes inside become single ones."""
    return '"' + " ".join(re.sub(r'["“”]', "'", text).split()) + '"'
