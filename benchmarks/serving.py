"""What the server costs: the engine's rows per second with clients in front of it and without, and the first words.

    python benchmarks/serving.py --gin_file=gin/models/nano.gin --clients=64
    python benchmarks/serving.py --gin_file=gin/models/0.6b.gin --gin.DecoderConfig.layers=4 --clients=64

Random weights. Every client asks for `--tokens` tokens of text over HTTP, from a process of their own, as streams;
beside that the same dialogues go to the same engine in this process, and the sides take turns. With `--codec` each asks
for as many rows of guided audio as well. Prints one JSON object. CPU seconds are those of this process, engine and
server together: where the clients take cores from the engine, they tell what the server costs.
"""

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal

import jax
import openai
from flax import nnx

from bagpiper_jax import configuration
from bagpiper_jax.dialogue import Message
from bagpiper_jax.generation.config import EngineConfig
from bagpiper_jax.generation.replies import Generator
from bagpiper_jax.generation.sampling import SamplingConfig
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.generation.service import Engine
from bagpiper_jax.generation.streaming import AudioDelta, TextDelta
from bagpiper_jax.models.bagpiper import Bagpiper
from bagpiper_jax.models.codecs.opening import open_codec
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.serving.config import Limits, ServeConfig
from bagpiper_jax.serving.job import bound, server_of
from bagpiper_jax.text import ByteTokenizer

NAME = "benchmark"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--codec", default="", help="a codec's file; sound is measured as well")
    parser.add_argument("--ask", default="", help=argparse.SUPPRESS)
    given, flags = parser.parse_known_args()
    if given.ask:
        print(json.dumps(asyncio.run(asked_over_http(given))))
        return
    config = configuration.load(BagpiperConfig, flags)
    generator = Generator(
        nnx.jit(lambda: Bagpiper(config, rngs=nnx.Rngs(0)))(),
        ByteTokenizer(),
        open_codec(given.codec) if given.codec else None,
        {"stage": "sft"},
    )
    sizes = EngineConfig(given.rows, context=1024)
    with Engine(generator, sizes) as engine, bound("127.0.0.1", 0) as listener:
        settings = ServeConfig("", engine=sizes, loop=loop_of(given), limits=Limits(queue=given.clients))
        server = server_of(settings, generator, engine, NAME)
        serving = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
        listener.listen()
        serving.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        sides = {
            "engine": lambda: asyncio.run(asked_directly(engine, given)),
            "server": lambda: asked_by_another(url, given),
        }
        found: dict[str, list[dict]] = {side: [] for side in sides}
        for turn in range(given.repeats + 1):  # the first one compiles
            for side, ask in sides.items():
                worked = time.process_time()
                measured = ask()
                worked = time.process_time() - worked
                if turn:
                    found[side].append(measured | {"rows_per_cpu_second": round(rows_of(given) / worked, 1)})
        server.should_exit = True
        serving.join()
    result = {
        side: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for side, runs in found.items()
    }
    print(json.dumps({
        "machine": f"{jax.device_count()} x {jax.devices()[0].device_kind}, {platform.machine()}",
        "jax": jax.__version__,
        **{key: value for key, value in vars(given).items() if key != "ask"},
        **result,
        "server_over_engine": {
            unit: round(result["server"][unit] / result["engine"][unit], 3)
            for unit in ("rows_per_second", "rows_per_cpu_second")
        },
    }, indent=1))  # fmt: skip


def loop_of(given: argparse.Namespace) -> LoopConfig:
    text = SamplingConfig(0.6, 20, 1.0, given.tokens, given.tokens)
    audio = SamplingConfig(0.8, 20, 3.0, given.tokens, given.tokens)
    return LoopConfig(text, audio, modalities_of(given), len(modalities_of(given)))


def modalities_of(given: argparse.Namespace) -> tuple[Literal["text", "audio"], ...]:
    return ("text", "audio") if given.codec else ("text",)


def rows_of(given: argparse.Namespace) -> int:
    return given.clients * given.tokens * len(modalities_of(given))


def words(n: int) -> str:
    return f"request {n}: rain on a roof"


def summed(
    given: argparse.Namespace, seconds: float, texts: list[float], sounds: list[float]
) -> dict[str, float]:
    found = {
        "rows_per_second": round(rows_of(given) / seconds, 1),
        "first_text_ms": round(1000 * statistics.median(texts), 1),
    }
    return found | ({"first_audio_ms": round(1000 * statistics.median(sounds), 1)} if sounds else {})


async def asked_directly(engine: Engine, given: argparse.Namespace) -> dict[str, float]:
    texts: list[float] = []
    sounds: list[float] = []
    began = time.perf_counter()

    async def one(n: int) -> None:
        firsts = {TextDelta: texts, AudioDelta: sounds}
        async for event in engine.submit([Message("user", "text", words(n))], loop_of(given)):
            if (first := firsts.pop(type(event), None)) is not None:
                first.append(time.perf_counter() - began)

    await asyncio.gather(*(one(n) for n in range(given.clients)))
    return summed(given, time.perf_counter() - began, texts, sounds)


def asked_by_another(url: str, given: argparse.Namespace) -> dict[str, float]:
    """The same over HTTP, from a process that shares no interpreter with the server."""
    flags = [f"--{key}={value}" for key, value in vars(given).items() if key != "ask"]
    command = [sys.executable, str(Path(__file__)), f"--ask={url}", *flags]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


async def asked_over_http(given: argparse.Namespace) -> dict[str, float]:
    texts: list[float] = []
    sounds: list[float] = []
    async with openai.AsyncOpenAI(
        base_url=f"{given.ask}/v1", api_key="none", max_retries=0, timeout=600
    ) as client:
        await client.models.list()
        began = time.perf_counter()

        async def one(n: int) -> None:
            has_text = has_sound = False
            modalities: list[Literal["text", "audio"]] = list(modalities_of(given))
            stream = await client.chat.completions.create(
                model=NAME,
                messages=[{"role": "user", "content": words(n)}],
                modalities=modalities,
                audio={"voice": "any", "format": "pcm16"},
                stream=True,
            )
            async for chunk in stream:
                delta: Any = chunk.choices[0].delta  # its type has no field for sound
                if delta.content and not has_text:
                    has_text = True
                    texts.append(time.perf_counter() - began)
                if delta.audio and delta.audio.data and not has_sound:
                    has_sound = True
                    sounds.append(time.perf_counter() - began)

        await asyncio.gather(*(one(n) for n in range(given.clients)))
        return summed(given, time.perf_counter() - began, texts, sounds)


if __name__ == "__main__":
    main()
