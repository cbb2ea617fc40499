"""What a server serves, where, and what it grants a client."""

import dataclasses

from bagpiper_jax.errors import Explained
from bagpiper_jax.generation.config import EngineConfig, WeightsConfig
from bagpiper_jax.generation.segments import LoopConfig


class ServingError(Explained, ValueError):
    """A server that cannot be started; the message names the remedy."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one client, and all of them together, may take.

    Attributes:
        queue: requests that wait beyond those that the engine has rows for; later ones are told to come again.
        body: MiB of a request.
        audio: seconds of a clip.
        text: characters of all texts of a request.
        upload: seconds in which a request must have arrived.
        answer: seconds in which it must have been answered, waiting included.
        stall: seconds for which a client may read nothing of a stream.
        drain: seconds that SIGTERM leaves to the requests that are under way.
    """

    queue: int = 64
    body: float = 32.0
    audio: float = 30.0
    text: int = 32_768
    upload: float = 60.0
    answer: float = 600.0
    stall: float = 60.0
    drain: float = 600.0

    def __post_init__(self):
        if self.queue < 0:
            raise ValueError(f"queue must not be negative: {self}")
        if min(self.body, self.audio, self.text, self.upload, self.answer, self.stall, self.drain) <= 0:
            raise ValueError(f"all limits but queue must be above 0: {self}")


@dataclasses.dataclass(frozen=True)
class ServeConfig:
    """How a run is served.

    Attributes:
        checkpoint: directory of a training run, or one of its steps.
        adapters: directories of adapters of the checkpoint, each a model of its own by its directory's name. They share
            the checkpoint's weights; each has rows, keys and values of its own.
        codec, tokenizer: instead of those that the run was trained with.
        weights: where the model lies, and in which precision.
        system_prompt: opens requests for audio whose client sends none (docs/reference.md, System prompt); None takes
            the one that the run was tuned with.
        name: what clients call the model; empty takes the run's directory.
        host, port: where the server listens; port 0 takes a free one.
        key_variable: the environment variable that holds the API key; unset or empty asks for none.
        audio_hosts: hosts from which clips that a client names by URL are fetched; data: URLs need none.
        warm_up: whether every program is compiled before the server listens, so that no client waits for one.
        log_prompts: whether the log has what clients ask.
        engine: sizes of the engine.
        loop: sampling where a client asks for nothing else; its modalities are set by what is asked.
        limits: what clients may take.
    """

    checkpoint: str
    adapters: tuple[str, ...] = ()
    codec: str = ""
    tokenizer: str = ""
    weights: WeightsConfig = WeightsConfig()
    system_prompt: str | None = None
    name: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    key_variable: str = "BAGPIPER_API_KEY"
    audio_hosts: tuple[str, ...] = ()
    warm_up: bool = True
    log_prompts: bool = False
    engine: EngineConfig = EngineConfig()
    loop: LoopConfig = LoopConfig()
    limits: Limits = Limits()
