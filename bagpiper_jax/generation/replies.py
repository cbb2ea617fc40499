"""Replies to dialogues: text and waveforms in, text and waveforms out."""

import dataclasses
import os
from collections.abc import Sequence as Seq
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float32

from bagpiper_jax.dialogue import EncodedMessage, render_prompt
from bagpiper_jax.generation.loop import LoopConfig, Segment, generate
from bagpiper_jax.models.bagpiper import Bagpiper
from bagpiper_jax.models.codec import functional
from bagpiper_jax.models.codec.storage import load_codec
from bagpiper_jax.models.config_json import load_model_config
from bagpiper_jax.models.configs import BagpiperConfig, CodecConfig
from bagpiper_jax.text import TextTokenizer, load_tokenizer
from bagpiper_jax.training.checkpoints import restore_parameters
from bagpiper_jax.training.state import initial_parameters, model_definition, unflatten

Message = tuple[str, str, str | np.ndarray]
"""Role, modality, and the text or the 16 kHz waveform."""


class GeneratorError(ValueError):
    """A model that cannot generate what is asked; the message names the remedy."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """What the assistant answered.

    Attributes:
        text: its text segments, joined by blank lines; "" if it only sounded.
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
        codec: parameters and configuration, None for a model that only writes.
        extras: what training stored beside the configuration, such as the stage.
    """

    model: Bagpiper
    tokenizer: TextTokenizer
    codec: tuple[functional.Parameters, CodecConfig] | None = None
    extras: dict = dataclasses.field(default_factory=dict)

    def reply(self, dialogues: Seq[Seq[Message]], config: LoopConfig, rows: int | None = None) -> list[Reply]:
        """Answers each dialogue; messages from the first of the assistant on are left out.

        Args:
            dialogues: messages per dialogue.
            config: how to sample.
            rows: dialogues decoded at once.

        Raises:
            GeneratorError: audio is asked of a model without codec.
            DialogueError: a message is empty or doesn't fit the vocabulary.
        """
        if "audio" in config.modalities and self.codec is None:
            raise GeneratorError("audio needs a codec; name one with --gin.GenerateConfig.codec=PATH")
        prompts = [
            render_prompt(self._encode(dialogue), self.model.config.vocabulary) for dialogue in dialogues
        ]
        return [self._decode(segments) for segments in generate(self.model, prompts, config, rows)]

    def _encode(self, dialogue: Seq[Message]) -> list[EncodedMessage]:
        return [
            EncodedMessage(
                role, modality, np.array(self.tokenizer.encode(content)) if modality == "text" else content
            )
            for role, modality, content in dialogue
            if role != "assistant"
        ]

    def _decode(self, segments: Seq[Segment]) -> Reply:
        vocabulary = self.model.config.vocabulary
        texts = [self.tokenizer.decode(s.text_ids(vocabulary)) for s in segments if s.modality == "text"]
        codes = [segment.codes(vocabulary) for segment in segments if segment.modality == "audio"]
        audio = None
        if codes and self.codec is not None:
            audio = functional.codec_decode(*self.codec, codes[-1])
        return Reply("\n\n".join(texts), audio, all(segment.terminator for segment in segments))


def load_generator(checkpoint: str | os.PathLike, codec: str = "", tokenizer: str = "") -> Generator:
    """Opens a training run, or one of its checkpoints, for generation.

    Args:
        checkpoint: the directory that `train` wrote.
        codec, tokenizer: instead of those that the run's config.json names.

    Raises:
        ModelConfigError, TokenizerError, CheckpointError: something is missing; the message says what.
    """
    config, extras = load_model_config(checkpoint)
    model = nnx.merge(
        model_definition(config), unflatten(restore_parameters(checkpoint, _on_one_device(config)))
    )
    text = load_tokenizer(tokenizer or _found(extras.get("tokenizer") or "byte", checkpoint))
    codec = codec or _found(extras.get("codec") or "", checkpoint)
    return Generator(model, text, load_codec(codec) if codec else None, extras)


def _on_one_device(config: BagpiperConfig):
    """Abstract parameters on the first device: generation uses one."""
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.eval_shape(lambda: initial_parameters(config, 0))
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding) for name, x in shapes.items()}


def _found(spec: str, checkpoint: str | os.PathLike) -> str:
    """A path as training stored it: from the working directory, else from the checkpoint's."""
    beside = Path(checkpoint) / spec
    return str(beside) if spec and not Path(spec).exists() and beside.exists() else spec
