"""Replies to dialogues: text and waveforms in, text and waveforms out."""

import dataclasses
import itertools
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from bagpiper_jax.audio import SAMPLE_RATE
from bagpiper_jax.dialogue import Message, Rendered, render_prompt
from bagpiper_jax.errors import Explained
from bagpiper_jax.generation.batch import answer, longest
from bagpiper_jax.generation.config import EngineConfig, WeightsConfig
from bagpiper_jax.generation.engine import EngineCore
from bagpiper_jax.generation.segments import LoopConfig, Segment
from bagpiper_jax.generation.weights import load_model, load_models
from bagpiper_jax.models.bagpiper import Bagpiper
from bagpiper_jax.models.codecs.opening import open_codec
from bagpiper_jax.models.codecs.protocol import Codec
from bagpiper_jax.models.config_json import load_model_config
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.text import TextTokenizer, load_tokenizer
from bagpiper_jax.training import companions

_MOST_ROWS = 64
"""Dialogues decoded at once where nobody says how many."""

_STEPS = 16
"""In a call of the device: nobody reads before the end."""


class GeneratorError(Explained, ValueError):
    """A model that cannot generate what is asked; the message names the remedy."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """What the assistant answered.

    Attributes:
        text: the reply's text segments, joined by blank lines; "" if it has none.
        audio: 16 kHz waveform of its last audio segment, or None.
        complete: every segment ended by itself, none was cut at its longest.
    """

    text: str
    audio: Float32[np.ndarray, " samples"] | None
    complete: bool


@dataclasses.dataclass(frozen=True)
class Generator:
    """A model with its tokenizer and codec.

    Attributes:
        codec: None for a model that only writes.
        extras: the values that training stored beside the configuration, such as the stage.
    """

    model: Bagpiper
    tokenizer: TextTokenizer
    codec: Codec | None = None
    extras: dict = dataclasses.field(default_factory=dict)
    _cores: dict = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def sample_rate(self) -> int:
        """Of the sound that streams bring: the codec's, else that of the clips that are heard."""
        return SAMPLE_RATE if self.codec is None else self.codec.sample_rate

    @property
    def hop(self) -> int:
        """Samples of a frame of the codec; 1 without one."""
        return 1 if self.codec is None else self.codec.hop

    @property
    def thinks(self) -> bool:
        """Whether the model writes before it sounds; one that was only pretrained turns captions into sound."""
        return self.extras.get("stage") == "sft"

    @property
    def system_prompt(self) -> str:
        """What opened the generation dialogues that the model was tuned on; "" if nothing did."""
        return self.extras.get("system_prompt") or ""

    def reply(
        self,
        dialogues: Sequence[Sequence[Message]],
        config: LoopConfig,
        rows: int | None = None,
        begun: Sequence[str] | None = None,
    ) -> list[Reply]:
        """Answers each dialogue, asked up to the first message of the assistant (docs/reference.md, Message layout).

        What stands behind it, of whatever role, is left out.

        Args:
            dialogues: messages as written; audio is a 16 kHz waveform.
            config: the settings of sampling.
            rows: dialogues decoded at once; None decodes up to 64.
            begun: for each dialogue the text that its reply begins with, "" where the model begins; it is a part of the
                reply's text, and needs text as the first of `config.modalities`.

        Raises:
            GeneratorError: replies are begun with text where no text comes first, or audio is asked of a model
                without codec.
            DialogueError: a message is empty or doesn't fit the vocabulary.
        """
        ids = None if begun is None else [self.begin(text, config) for text in begun]
        if not dialogues:
            return []
        prompts = [self.prompt(dialogue, config) for dialogue in dialogues]
        needed = EngineConfig(
            rows or min(len(prompts), _MOST_ROWS), context=longest(prompts, config), steps=_STEPS
        )
        return self.decode(answer(self._core(needed), prompts, config, begun=ids))

    def _core(self, needed: EngineConfig) -> EngineCore:
        """An engine that is kept from one call to the next, for what it has compiled."""
        for config, core in self._cores.items():
            if config.rows >= needed.rows and config.context >= needed.context:
                return core
        self._cores.clear()  # the memory of one cache is free before that of the next is taken
        return self._cores.setdefault(needed, EngineCore(self.model, needed))

    def prompt(self, dialogue: Sequence[Message], config: LoopConfig) -> Rendered:
        """What the model is asked: the dialogue up to the first message of the assistant, rendered.

        Raises:
            GeneratorError, DialogueError: as `reply`.
        """
        if "audio" in config.modalities and self.codec is None:
            raise GeneratorError("audio needs a codec; name one with --gin.GenerateConfig.codec=PATH")
        return render_prompt(self._encode(dialogue), self.model.config.vocabulary)

    def begin(self, text: str, config: LoopConfig) -> list[int]:
        """The ids of text that a reply begins with. Raises GeneratorError: its settings have no text first."""
        if config.modalities[:1] != ("text",):
            raise GeneratorError(
                "a reply that is begun with text needs text first; name it with --gin.LoopConfig.modalities=('text',)"
            )
        return self.tokenizer.encode(text)

    def _encode(self, dialogue: Sequence[Message]) -> list[Message]:
        return [
            dataclasses.replace(message, content=np.array(self.tokenizer.encode(message.content)))
            if message.modality == "text"
            else message
            for message in itertools.takewhile(lambda message: message.role != "assistant", dialogue)
        ]

    def decode(self, answers: Sequence[Sequence[Segment]]) -> list[Reply]:
        """Text and waveforms of dialogues' segments."""
        vocabulary = self.model.config.vocabulary
        codes = {
            row: [s.codes(vocabulary) for s in segments if s.modality == "audio"][-1]
            for row, segments in enumerate(answers)
            if self.codec is not None and any(s.modality == "audio" for s in segments)
        }
        decoded = self.codec.decode(list(codes.values())) if self.codec is not None and codes else []
        waveforms = dict(zip(codes, decoded, strict=True))
        return [
            Reply(
                "\n\n".join(self._text(s) for s in segments if s.modality == "text"),
                waveforms.get(row),
                all(s.terminator for s in segments),
            )
            for row, segments in enumerate(answers)
        ]

    def _text(self, segment: Segment) -> str:
        return self.tokenizer.decode(segment.text_ids(self.model.config.vocabulary))


def load_generator(
    checkpoint: str | os.PathLike,
    codec: str = "",
    tokenizer: str = "",
    weights: WeightsConfig = WeightsConfig(),
) -> Generator:
    """Opens a training run, or one of its checkpoints, for generation.

    Args:
        checkpoint: the directory that `train` wrote.
        codec, tokenizer: instead of those that the run's config.json names.
        weights: where the model lies, and in which precision.

    Raises:
        ModelConfigError, TokenizerError, CheckpointError: something is missing; the message says what.
        MeshError: the mesh does not fit the devices.
    """
    config, extras = load_model_config(checkpoint)
    text, sound = _companions(checkpoint, config, extras, codec, tokenizer)
    return Generator(load_model(checkpoint, config, weights), text, sound, extras)


def load_generators(
    checkpoint: str | os.PathLike,
    adapters: Sequence[str],
    codec: str = "",
    tokenizer: str = "",
    weights: WeightsConfig = WeightsConfig(),
) -> list[Generator]:
    """The same of a checkpoint, and of adapters that change it: their weights, but for the changes, are there once.

    Args:
        adapters: directories of adapters' runs or imports.
        checkpoint, codec, tokenizer, weights: as `load_generator`.

    Raises:
        AdapterError: an adapter of another base.
        ModelConfigError, TokenizerError, CheckpointError, MeshError: as `load_generator`.
    """
    if not adapters:
        return [load_generator(checkpoint, codec, tokenizer, weights)]
    config, extras = load_model_config(checkpoint)
    text, sound = _companions(checkpoint, config, extras, codec, tokenizer)
    told = [extras, *(load_model_config(adapter)[1] for adapter in adapters)]
    models = load_models(checkpoint, adapters, config, weights)
    return [Generator(model, text, sound, each) for model, each in zip(models, told, strict=True)]


def _companions(checkpoint, config: BagpiperConfig, extras: dict, codec: str, tokenizer: str):
    """Tokenizer and codec, those that are given or those of the checkpoint."""
    text = load_tokenizer(tokenizer or companions.find(checkpoint, extras, "tokenizer") or "byte")
    codec = codec or companions.find(checkpoint, extras, "codec")
    return text, _fitting_codec(codec, config) if codec else None


def _fitting_codec(path: str | os.PathLike, config: BagpiperConfig) -> Codec:
    """The codec, if its codes are those of the vocabulary. Raises CodecFileError, GeneratorError."""
    codec, vocabulary = open_codec(path), config.vocabulary
    if codec.codebooks != (vocabulary.codebook_size,) * vocabulary.num_streams:
        raise GeneratorError(
            f"{path} has codebooks of {list(codec.codebooks)} codes, the model has {vocabulary.num_streams} streams "
            f"of {vocabulary.codebook_size}; name the codec that it was trained with"
        )
    return codec
