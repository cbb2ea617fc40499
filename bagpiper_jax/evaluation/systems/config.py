"""Which system is tested: one of four."""

import dataclasses
from typing import Literal

from bagpiper_jax.curation.endpoint.client import Endpoint
from bagpiper_jax.generation.config import EngineConfig, WeightsConfig
from bagpiper_jax.generation.segments import LoopConfig


@dataclasses.dataclass(frozen=True)
class CheckpointSystem:
    """A run of ours, or one of its checkpoints, through the generation engine.

    Attributes:
        checkpoint: directory of a training run, or of one of its steps.
        name: as tables print it; "" takes the directory's.
        codec, tokenizer: instead of those that the run was trained with.
        weights: where the model lies, and in which precision.
        system_prompt: opens requests for audio if not empty; None takes the one that the run was tuned with.
        loop: sampling. Modalities follow from what is asked, and a text ends with the item's `max_tokens` at most.
        engine: sizes of the engine.
        max_seconds: the length of the longest clip that is heard; a longer one is a fault of its item.
    """

    checkpoint: str
    name: str = ""
    codec: str = ""
    tokenizer: str = ""
    weights: WeightsConfig = WeightsConfig()
    system_prompt: str | None = None
    loop: LoopConfig = LoopConfig()
    engine: EngineConfig = EngineConfig()
    max_seconds: float = 300.0


@dataclasses.dataclass(frozen=True)
class EndpointSystem:
    """A model behind an OpenAI-style endpoint: `bagpiper serve`, vLLM, a service.

    Attributes:
        endpoint: where it is, how patiently it is asked, and how much at most.
        name: as tables print it; "" takes the endpoint's name of the model.
        clip_form: how clips are sent: as `input_audio`, or as `audio_url` with a data URI, which vLLM takes as well.
        temperature: of sampling; 0 takes the likeliest.
        voice: what is sent as the voice where audio is wanted, which OpenAI's API demands.
        max_seconds: the length of the longest clip that is sent; a longer one is a fault of its item.
    """

    endpoint: Endpoint = Endpoint()
    name: str = ""
    clip_form: Literal["input_audio", "audio_url"] = "input_audio"
    temperature: float = 0.0
    voice: str = "alloy"
    max_seconds: float = 300.0


@dataclasses.dataclass(frozen=True)
class RecordedSystem:
    """Replies that were made before, ours or others'; nothing is asked.

    Attributes:
        path: an output of ours, a JSONL with `id` and `reply` in each line, a folder of WAVs that are named by their
            items' ids, or a file in the form of the benchmark's own script. Of a folder that holds one for each
            benchmark, by its name, that one is read.
        name: as tables print it; "" takes the name of the file or folder.
    """

    path: str
    name: str = ""


@dataclasses.dataclass(frozen=True)
class CaptionedSystem:
    """A model that captions, and a text model that answers from the caption, as base models are tested.

    Attributes:
        captions: what captions the clips.
        reader: the endpoint of the text model.
        name: as tables print it; "" joins the names of both.
        caption_tokens: the longest caption in tokens.
        temperature: of the text model's sampling.
    """

    captions: CheckpointSystem | EndpointSystem | RecordedSystem
    reader: Endpoint = Endpoint()
    name: str = ""
    caption_tokens: int = 1024
    temperature: float = 0.0


SystemConfig = CheckpointSystem | EndpointSystem | RecordedSystem | CaptionedSystem
