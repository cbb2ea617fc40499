"""CV3-Eval: zero-shot speech in many languages and across them, by the files of Kaldi.

Its files are one set's folder, such as `zero_shot/hard_en` or `cross_lingual_zeroshot/to_ja`, with `text` and, where
there is a voice to be like, `prompt_wav.scp`. The language is what the folder's name ends in. The published word error
rates are Whisper-large-v3's and Paraformer's, voices ERes2Net's, opinions P.808's.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.generated.lines import Line, unbroken
from bagpiper_jax.evaluation.benchmarks.generated.spoken import Spoken
from bagpiper_jax.evaluation.benchmarks.protocol import Tools

_LANGUAGES = ("zh", "en", "ja", "ko", "de", "es", "fr", "it", "ru")


class Cv3(Spoken):
    """The benchmark `cv3`."""

    name, version = "cv3", "f3b7ed54"
    overlaps = ("common_voice",)
    voices = ("eres2net", "resemblyzer")
    opinions = ("p808",)

    def __init__(self, files: Path, tools: Tools):
        super().__init__(read(files), tools)


def read(folder: Path) -> Sequence[Line]:
    """The lines of a set. Raises BenchmarkError: files are missing or broken."""
    path, voices = folder / "text", folder / "prompt_wav.scp"
    if not path.is_file():
        raise BenchmarkError(f"{path} is missing; name the folder of one set of CV3-Eval")
    language = folder.absolute().name.rpartition("_")[2]
    if language not in _LANGUAGES:
        raise BenchmarkError(f"{folder}: its name must end in the language, one of {', '.join(_LANGUAGES)}")
    faults: list[str] = []
    texts, prompts = _table(path, faults), _table(voices, faults) if voices.is_file() else {}
    lines = [
        Line(id, _unquoted(text), language, _file(folder, prompts.get(id))) for id, text in texts.items()
    ]
    return unbroken(path, lines, faults)


def _table(path: Path, faults: list[str]) -> Mapping[str, str]:
    """First word → the rest of the line."""
    found: dict[str, str] = {}
    for number, row in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        id, _, rest = row.strip().partition(" ")
        if not rest or id in found:
            faults.append(f"{path.name}, line {number}: " + (f"{id} is there twice" if rest else "no value"))
        found[id] = rest.strip()
    return found


def _unquoted(text: str) -> str:
    """A text without the quotes that a CSV file doubled."""
    inner = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    return inner.replace('""', '"')


def _file(folder: Path, name: str | None) -> Path | None:
    path = folder / name if name else None
    return path if path and path.is_file() else None
