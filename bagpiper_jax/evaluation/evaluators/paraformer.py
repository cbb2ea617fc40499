"""Paraformer: what is said in Chinese, as seed-tts-eval and CV3-Eval hear it.

The package funasr runs a directory of its own, such as paraformer-zh. What it hears is written in simplified characters
by zhconv. Clips are heard one by one, since the transcript depends on what is heard together.
"""

import re
import threading
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators import sound, weights

RATE = 16_000
_WEIGHTS = "model.pt"
_SECONDS_TOGETHER = 300


class Paraformer:
    """A recogniser of Chinese.

    Attributes:
        name: "paraformer_" and what the directory's name has besides.
    """

    def __init__(self, directory: Path):
        library = weights.library("funasr", "funasr", "paraformer")
        self._simplified = weights.library("zhconv", "zhconv", "paraformer").convert
        rest = re.sub(r"\W+", "_", directory.name.lower().removeprefix("paraformer").strip("-_"))
        self.name, self.version = f"paraformer_{rest}", weights.version(directory / _WEIGHTS)
        self._model = library.AutoModel(model=str(directory), disable_update=True, disable_pbar=True)
        self._one_at_a_time = threading.Lock()

    def transcribe(self, path: Path, language: str) -> str:
        """The words of a file.

        Raises:
            audio.AudioError: the file cannot be used.
            MissingEvaluatorError: the language is not Chinese.
        """
        if language != "zh":
            raise MissingEvaluatorError(f"{self.name} hears Chinese alone; name the path of a Whisper")
        samples = sound.read(path, RATE)
        with self._one_at_a_time:
            (found,) = self._model.generate(input=samples, fs=RATE, batch_size_s=_SECONDS_TOGETHER)
        return self._simplified(found["text"], "zh-cn")


def open_paraformer(path: str = "") -> Paraformer:
    """See `open_evaluator`. A path is a directory of funasr."""
    if not path:
        raise MissingEvaluatorError(
            "paraformer needs weights: name the path of a directory of funasr such as paraformer-zh, and pip install "
            "funasr zhconv, which run it"
        )
    return Paraformer(weights.at(path, "paraformer", _WEIGHTS, "config.yaml"))
