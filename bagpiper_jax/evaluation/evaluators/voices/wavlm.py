"""WavLM with a head for voices, by a directory of transformers' WavLMForXVector such as microsoft/wavlm-base-plus-sv.

The published similarities of seed-tts-eval are those of another network, WavLM-large with an ECAPA-TDNN
(`wavlm_large_finetune.pth` of UniSpeech), which transformers does not have and nothing here reads: scores bear the
directory's name.
"""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from bagpiper_jax import audio
from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators import sound, weights


class WavLm:
    """A network that knows voices.

    Attributes:
        name: "wavlm_" and the rest of the directory's.
    """

    def __init__(self, directory: Path):
        library = weights.library("transformers", "transformers", "wavlm_sv")
        self._torch = weights.library("torch", "torch", "wavlm_sv")
        self.name = "wavlm_" + re.sub(r"\W+", "_", directory.name.lower().removeprefix("wavlm").strip("-_"))
        self.version = weights.version(*sorted(directory.glob("*.safetensors")))
        self._hearing = library.Wav2Vec2FeatureExtractor.from_pretrained(directory, local_files_only=True)
        self._model = library.WavLMForXVector.from_pretrained(
            directory, local_files_only=True, use_safetensors=True, dtype=self._torch.float32
        ).eval()

    def voice(self, path: Path) -> Float32[np.ndarray, " numbers"]:
        """The voice in a file. Raises audio.AudioError, also of a clip that is too short for the network."""
        rate = self._hearing.sampling_rate
        samples = sound.read(path, rate)
        if self._frames(len(samples)) < 1:
            raise audio.AudioError(
                "too_short", path, f"{len(samples) / rate:.2f} s are no frame of {self.name}"
            )
        heard = self._hearing(samples, sampling_rate=rate, return_tensors="pt")
        with self._torch.inference_mode():
            found = self._model(**heard).embeddings[0].numpy()
        return found / np.linalg.norm(found)

    def _frames(self, samples: int) -> int:
        """The frames that are left of so many samples behind all convolutions."""
        sizes = self._model.config
        for kernel, stride in zip(sizes.conv_kernel, sizes.conv_stride, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples - sum((k - 1) * d for k, d in zip(sizes.tdnn_kernel, sizes.tdnn_dilation, strict=True))


def open_wavlm(path: str = "") -> WavLm:
    """See `open_evaluator`. A path is a directory of transformers."""
    if not path:
        raise MissingEvaluatorError(
            "wavlm_sv needs weights, which no package carries; name the path of a directory of transformers' "
            "WavLMForXVector, such as microsoft/wavlm-base-plus-sv"
        )
    directory = weights.at(path, "wavlm_sv", "config.json", "preprocessor_config.json")
    if not any(directory.glob("*.safetensors")):
        raise MissingEvaluatorError(
            f"wavlm_sv: {directory} has no *.safetensors; save the model in that form"
        )
    return WavLm(directory)
