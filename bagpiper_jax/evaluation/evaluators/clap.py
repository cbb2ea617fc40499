"""CLAP: how well a sound fits a caption, by a directory of transformers such as laion/larger_clap_music_and_speech.

LAION's own files become such a directory with transformers' conversion script. A clip of more than ten seconds is heard
by its first ten, where laion_clap takes any ten at random: the score is the same every time.
"""

import re
from pathlib import Path

import numpy as np

from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators import sound, weights
from bagpiper_jax.evaluation.metrics.clap import cosines


class Clap:
    """A model of text and audio.

    Attributes:
        name: the directory's: a score belongs to its checkpoint.
    """

    def __init__(self, directory: Path):
        library = weights.library("transformers", "transformers", "clap")
        self._torch = weights.library("torch", "torch", "clap")
        self.name = re.sub(r"\W+", "_", directory.name.lower().removeprefix("clap").strip("-_"))
        self.version = weights.version(*sorted(directory.glob("*.safetensors")))
        self._model = library.ClapModel.from_pretrained(
            directory, local_files_only=True, use_safetensors=True, dtype=self._torch.float32
        ).eval()
        self._hearing = library.ClapFeatureExtractor.from_pretrained(directory, local_files_only=True)
        self._tokenizer = library.AutoTokenizer.from_pretrained(directory, local_files_only=True)

    def match(self, caption: str, path: Path) -> float:
        """The cosine of a caption and a file. Raises audio.AudioError."""
        rate = self._hearing.sampling_rate
        samples = sound.read(path, rate)[: self._hearing.nb_max_samples]
        tokens = self._tokenizer(caption, truncation=True, return_tensors="pt", return_token_type_ids=False)
        heard = self._hearing(samples, sampling_rate=rate, return_tensors="pt")
        with self._torch.inference_mode():
            sides = (self._model.get_text_features(**tokens), self._model.get_audio_features(**heard))
        text, audio = (np.asarray(getattr(side, "pooler_output", side)) for side in sides)
        return float(cosines(text, audio)[0])


def open_clap(path: str = "") -> Clap:
    """See `open_evaluator`. A path is a directory of transformers, with its tokenizer."""
    if not path:
        raise MissingEvaluatorError(
            "clap needs weights, which no package carries; name the path of a directory of transformers' ClapModel"
        )
    directory = weights.at(path, "clap", "config.json", "preprocessor_config.json")
    if not any(directory.glob("*.safetensors")):
        raise MissingEvaluatorError(f"clap: {directory} has no *.safetensors")
    return Clap(directory)
