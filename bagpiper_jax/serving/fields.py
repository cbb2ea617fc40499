"""The fields of requests: those of OpenAI's API that mean something here, and what becomes of the others."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bagpiper_jax.serving.faults import invalid, of_fields
from bagpiper_jax.strict import loads

IGNORED = frozenset(
    "user metadata store service_tier safety_identifier prompt_cache_key prompt_cache_retention parallel_tool_calls "
    "verbosity reasoning_effort".split()
)
"""Fields that change nothing in an answer, wherever they are sent."""

REFUSED: Mapping[str, tuple[Any, ...]] = {
    "n": (1,), "logprobs": (False,), "top_logprobs": (0,), "tools": ([],), "tool_choice": ("none", "auto"),
    "functions": ([],), "function_call": ("none", "auto"), "response_format": ({"type": "text"},),
    "logit_bias": ({},), "stop": ([], ""), "top_p": (1,), "presence_penalty": (0,), "frequency_penalty": (0,),
    "prediction": (), "web_search_options": (), "moderation": (),
}  # fmt: skip
"""Fields of chat completions that would change an answer and that this server has not, with the values that ask for
nothing."""

Parsed = TypeVar("Parsed", bound=BaseModel)


class Fields(BaseModel):
    """Fields are of their own type, and no others are there."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class TextPart(Fields):
    type: Literal["text"]
    text: str


class SentAudio(Fields):
    data: str
    format: Literal["wav", "mp3", "flac", "ogg"]


class InputAudioPart(Fields):
    type: Literal["input_audio"]
    input_audio: SentAudio


class Address(Fields):
    url: str


class AudioURLPart(Fields):
    type: Literal["audio_url"]
    audio_url: Address


AudioPart = InputAudioPart | AudioURLPart
Part = Annotated[TextPart | InputAudioPart | AudioURLPart, Field(discriminator="type")]


def _as_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class ChatMessage(Fields):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[Part], BeforeValidator(_as_parts)]
    name: str | None = None

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart) and part.text)


class ChatAudio(Fields):
    """How sound is wanted; the last three fields are this server's own."""

    voice: Any = None
    format: Literal["wav", "mp3", "flac", "opus", "pcm16"] = "wav"
    temperature: float | None = Field(default=None, ge=0, le=2)
    guidance: float | None = Field(default=None, ge=1, le=20)
    max_seconds: float | None = Field(default=None, gt=0)


class StreamOptions(Fields):
    include_usage: bool = False
    include_obfuscation: bool = False


class ChatRequest(Fields):
    """`POST /v1/chat/completions`; `top_k` is this server's own."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    modalities: list[Literal["text", "audio"]] = Field(["text"], min_length=1, max_length=2)
    audio: ChatAudio | None = None
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_k: int | None = Field(default=None, ge=0)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)


class SpeechRequest(Fields):
    """`POST /v1/audio/speech`; `seed` is this server's own."""

    model: str
    input: str = Field(min_length=1, max_length=4096)
    voice: Any = ""
    instructions: str = Field("", max_length=4096)
    response_format: Literal["mp3", "opus", "flac", "wav", "pcm"] = "mp3"
    stream_format: Literal["audio", "sse"] = "audio"
    speed: float = 1.0
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)


def parse(kind: type[Parsed], body: bytes) -> Parsed:
    """The fields of a request; null stands for a field that is not there. Raises APIError."""
    try:
        sent = loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid(f"the body is no JSON: {error}", code="invalid_json") from None
    if not isinstance(sent, dict):
        raise invalid("the body has to be a JSON object", code="invalid_json")
    given = {name: value for name, value in sent.items() if value is not None and name not in IGNORED}
    for name, neutral in REFUSED.items():
        if name in given and name not in kind.model_fields and given.pop(name) not in neutral:
            raise invalid(
                f"'{name}' is not supported by this server; leave it out", name, "unsupported_parameter"
            )
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise of_fields(error) from None
