"""seed-tts-eval: zero-shot speech, judged by the words that a recogniser hears and by the voice.

Its files are `meta.lst`, or the folder that holds it: utt|prompt text|prompt wav|text[|wav], or utt|text|prompt wav.
The published English scores are Whisper-large-v3's, the Chinese ones Paraformer's, voices WavLM-large's; scores by
other models are named after them.
"""

from collections.abc import Sequence
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.generated.lines import Line, unbroken
from bagpiper_jax.evaluation.benchmarks.generated.spoken import Spoken
from bagpiper_jax.evaluation.benchmarks.protocol import Tools

_FILE = "meta.lst"
_TEXT_AND_VOICE = {3: (1, 2), 4: (3, 2), 5: (3, 2)}
"""Number of columns → where the text and the recording of the voice stand."""


class SeedTts(Spoken):
    """The benchmark `seed_tts`. The language is Chinese where the folder of the list is called zh."""

    name, version = "seed_tts", "752f4297"
    overlaps = ("common_voice",)
    voices = ("wavlm_sv", "resemblyzer")

    def __init__(self, files: Path, tools: Tools):
        super().__init__(read(files / _FILE if files.is_dir() else files), tools)


def read(path: Path) -> Sequence[Line]:
    """The lines of a list. Raises BenchmarkError: it is missing or broken, where the official script repeats a line."""
    if not path.is_file():
        raise BenchmarkError(
            f"{path} is missing; name the list of seed-tts-eval, or the folder of its {_FILE}"
        )
    language = "zh" if path.absolute().parent.name == "zh" else "en"
    found, faults = [], []
    for number, row in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        columns = row.strip().split("|")
        if len(columns) not in _TEXT_AND_VOICE:
            faults.append(f"line {number} has {len(columns)} columns, not 3 to 5")
            continue
        text, voice = (columns[place] for place in _TEXT_AND_VOICE[len(columns)])
        voice_file = path.parent / voice
        found.append(
            Line(
                columns[0].removesuffix(".wav"), text, language, voice_file if voice_file.is_file() else None
            )
        )
    return unbroken(path, found, faults)
