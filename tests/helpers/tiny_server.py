"""A real server at a free port, with a tiny random model behind the real engine."""

import asyncio
import contextlib
import dataclasses
import io
import socket
import threading

import jax
import numpy as np
import openai
import soundfile
import tiny_codec
from flax import nnx

from bagpiper_jax.dialogue import Message
from bagpiper_jax.generation.config import EngineConfig
from bagpiper_jax.generation.replies import Generator
from bagpiper_jax.generation.sampling import SamplingConfig
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.generation.service import Engine
from bagpiper_jax.models.bagpiper import Bagpiper
from bagpiper_jax.models.codecs.xcodec import functional
from bagpiper_jax.models.codecs.xcodec.loaded import LoadedXCodec
from bagpiper_jax.models.configs import AudioTowerConfig, BagpiperConfig, DecoderConfig
from bagpiper_jax.serving.config import ServeConfig
from bagpiper_jax.serving.job import bound, server_of
from bagpiper_jax.text import ByteTokenizer
from bagpiper_jax.vocabulary import Vocabulary

SIZES = tiny_codec.TINY
CONFIG = BagpiperConfig(
    DecoderConfig(1, 16, 32, 2, 1, 8, dtype="float32", init_std=0.3, remat="none"),
    AudioTowerConfig(128, 1, 16, 2, 32, 4, 24, dtype="float32", remat="none"),
    Vocabulary(text_size=256, codebook_size=SIZES.codebook_size, num_streams=SIZES.num_codebooks),
)
ENGINE = EngineConfig(rows=8, context=1024, page=64, chunk=128, steps=4)
TEXT, AUDIO = SamplingConfig(0.9, 0, 1, 24, 24), SamplingConfig(0.9, 0, 2.0, 40, 40)
SETTINGS = ServeConfig("", engine=ENGINE, loop=LoopConfig(TEXT, AUDIO))
NAME = "tiny"
SYSTEM = Message("system", "text", "Compose with care.")
LOOP = SETTINGS.loop


def file_of(samples: np.ndarray, format: str = "WAV", rate: int = 16_000) -> bytes:
    """A sound file."""
    data = io.BytesIO()
    soundfile.write(data, samples, rate, format=format)
    return data.getvalue()


def random_generator(config: BagpiperConfig = CONFIG) -> Generator:
    """A model that says anything, tuned as far as the server can see."""
    model = Bagpiper(config, rngs=nnx.Rngs(0))
    model.stream_emb.set_value(jax.random.normal(jax.random.key(1), model.stream_emb.shape))
    parameters, rng = functional.initialize(SIZES), np.random.default_rng(0)
    for name in parameters:
        if name.endswith("embed"):
            parameters[name] = 0.1 * rng.normal(size=parameters[name].shape).astype(np.float32)
    codec = LoadedXCodec(parameters, SIZES)
    return Generator(model, ByteTokenizer(), codec, {"stage": "sft", "system_prompt": "Compose with care."})


@dataclasses.dataclass(frozen=True)
class Running:
    """A server that runs, with what is behind it."""

    url: str
    generator: Generator
    engine: Engine
    server: object

    def client(self, **kwargs) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", **{"api_key": "none", "max_retries": 0} | kwargs)

    def async_client(self, **kwargs) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", **{"api_key": "none", "max_retries": 0} | kwargs)


@contextlib.contextmanager
def running(
    generator: Generator,
    settings: ServeConfig = SETTINGS,
    engine: Engine | None = None,
    key: str = "",
    adapted=(),
):
    """A server in a thread, over an engine of its own where none is given."""
    with contextlib.ExitStack() as stack:
        engine = engine or stack.enter_context(Engine(generator, settings.engine))
        listener = stack.enter_context(bound("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # who reads nothing is noticed soon
        server = server_of(settings, generator, engine, NAME, key, adapted)
        started = threading.Event()

        async def serve():
            serving = asyncio.ensure_future(server.serve([listener]))
            while not server.started and not serving.done():
                await asyncio.sleep(0)
            started.set()
            await serving

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        try:
            assert started.wait(300) and server.started
            yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", generator, engine, server)
        finally:
            server.should_exit = True
            thread.join(300)
            assert not thread.is_alive()


def reply(server, dialogue, modalities, seed=LOOP.seed, loop=LOOP):
    """What the generator replies without a server."""
    loop = dataclasses.replace(loop, modalities=modalities, max_segments=len(modalities), seed=seed)
    (found,) = server.generator.reply([dialogue], loop)
    return found
