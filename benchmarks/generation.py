"""Tokens per second of the engine on this machine, beside transformers' `generate` with a static cache.

    python benchmarks/generation.py --gin_file=gin/models/nano.gin --rows=16 --requests=128
    python benchmarks/generation.py --gin_file=gin/models/0.6b.gin --gin.DecoderConfig.layers=4 \\
        --gin.DecoderConfig.dtype="'float32'" --rows=16

Random weights. Both sides write text greedily, `--tokens` behind a prompt of `--prompt` tokens in each of `--rows`
dialogues, with `--slots` allocated for each, and take turns; ours does so with `--allocated` slots, too, and makes
guided audio. With `--requests` it answers so many whose lengths differ widely, at once and batch by batch. Prints one
JSON object. On a busy machine the CPU seconds tell more than those on the clock.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
from flax import nnx

from bagpiper_jax import configuration
from bagpiper_jax.dialogue import Message, Rendered, render_prompt
from bagpiper_jax.generation.batch import answer
from bagpiper_jax.generation.config import EngineConfig
from bagpiper_jax.generation.engine import EngineCore
from bagpiper_jax.generation.sampling import SamplingConfig
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.models.bagpiper import Bagpiper
from bagpiper_jax.models.configs import BagpiperConfig

_ROOM = 16.0
"""GiB: what is allocated is what was asked for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--slots", type=int, default=512, help="allocated for each row")
    parser.add_argument("--allocated", type=int, default=8192, help="slots, for the same text once more")
    parser.add_argument("--requests", type=int, default=0, help="of very different lengths")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--without_torch", action="store_true")
    given, flags = parser.parse_known_args()
    config = configuration.load(BagpiperConfig, flags)
    model = nnx.jit(lambda: Bagpiper(config, rngs=nnx.Rngs(0)))()
    core = EngineCore(model, EngineConfig(given.rows, context=given.slots))
    prompts = [prompt_of(config, given.prompt, row) for row in range(given.rows)]
    roomy = EngineCore(model, EngineConfig(given.rows, _ROOM, context=given.allocated))
    sides = {
        "text": lambda: answer(core, prompts, writing(given.tokens)),
        "allocated": lambda: answer(roomy, prompts, writing(given.tokens)),
    }
    if not given.without_torch:
        sides["transformers"] = transformers_side(config, given)
    measured = measure(sides, given.repeats)
    alone = {
        "guided_audio": lambda: answer(core, prompts, sounding(given.tokens)),
        "one_row": lambda: answer(core, prompts[:1], writing(given.tokens)),
    }
    measured |= measure(alone, given.repeats)
    tokens = dict.fromkeys(measured, given.rows * given.tokens) | {"one_row": given.tokens}
    result = {name: described(tokens[name], runs) for name, runs in measured.items()}
    print(json.dumps({
        "machine": f"{jax.device_count()} x {jax.devices()[0].device_kind}, {platform.machine()}",
        "jax": jax.__version__,
        **vars(given),
        **result,
        **ratio("text_over_transformers", result, "text", "transformers"),
        **ratio("text_over_allocated", result, "text", "allocated"),
        **(spread(model, config, given) if given.requests else {}),
    }, indent=1))  # fmt: skip


def writing(tokens: int) -> LoopConfig:
    return LoopConfig(SamplingConfig(0.0, 0, 1.0, tokens, tokens), modalities=("text",), max_segments=1)


def sounding(tokens: int) -> LoopConfig:
    audio = SamplingConfig(0.8, 20, 3.0, tokens, tokens)
    return LoopConfig(audio=audio, modalities=("audio",), max_segments=1)


def prompt_of(config: BagpiperConfig, tokens: int, seed: int) -> Rendered:
    ids = np.random.default_rng(seed).integers(0, config.vocabulary.text_size, max(1, tokens - 4))
    return render_prompt([Message("user", "text", ids)], config.vocabulary)


def transformers_side(config: BagpiperConfig, given: argparse.Namespace) -> Callable:
    """The same decoder and head, random, in PyTorch."""
    import torch
    import transformers

    from bagpiper_jax.interop.hub import config as hub_config

    settings = hub_config.decoder(config.decoder, config.vocabulary.size, config.decoder.dtype)
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**settings))
    model = model.to(getattr(torch, config.decoder.dtype)).eval()
    ids = torch.randint(256, config.vocabulary.codec_start, (given.rows, given.prompt))

    def run():
        with torch.no_grad():
            cache = transformers.StaticCache(config=model.config, max_cache_len=given.slots)
            model.generate(
                ids, attention_mask=torch.ones_like(ids), past_key_values=cache, do_sample=False,
                min_new_tokens=given.tokens, max_new_tokens=given.tokens, pad_token_id=0,
            )  # fmt: skip

    return run


def spread(model: Bagpiper, config: BagpiperConfig, given: argparse.Namespace) -> dict:
    """Replies of very different lengths, half of them text, half guided sound, in the order in which they are asked.

    All are given to the engine; and in static batches, which text and sound have of their own, and whose rows are all
    kept until the longest reply has ended. Only the tokens that were asked for count, on either side.
    """
    rng = np.random.default_rng(0)
    texts, sounds = drawn(rng, given.requests // 2, _TEXT), drawn(rng, given.requests // 2, _AUDIO)
    longest = EngineConfig(given.rows, context=given.prompt + _AUDIO[1] + 64)
    core = EngineCore(model, longest)
    asked = [(writing, n) for n in texts] + [(sounding, n) for n in sounds]
    mixed = [asked[at] for at in rng.permutation(len(asked))]

    def all_of(kinds):
        requests = [
            core.add(prompt_of(config, given.prompt, at), loop(n)) for at, (loop, n) in enumerate(kinds)
        ]
        while not core.is_idle:
            while core.feed():
                pass
            core.decode()
        return requests

    def static():
        for loop in (writing, sounding):
            lengths = [n for kind, n in mixed if kind is loop]
            for start in range(0, len(lengths), given.rows):
                batch = lengths[start : start + given.rows]
                all_of([(loop, max(batch))] * len(batch))

    runs = measure({"continuous": lambda: all_of(mixed), "static": static}, given.repeats)
    result = {name: described(sum(texts) + sum(sounds), found) for name, found in runs.items()}
    return result | ratio("continuous_over_static", result, "continuous", "static")


_TEXT, _AUDIO = (20, 900), (50, 2048)
"""Rows of replies, from captions of a sentence to long ones, from a second of sound to the longest."""


def drawn(rng: np.random.Generator, count: int, between: tuple[int, int]) -> list[int]:
    """Lengths whose logarithms are uniform."""
    return np.exp(rng.uniform(np.log(between[0]), np.log(between[1]), count)).astype(int).tolist()


def measure(sides: dict[str, Callable], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """(seconds, CPU seconds) of the sides' turns, after one of each that compiles."""
    found: dict[str, list] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, run in sides.items():
            began, worked = time.perf_counter(), time.process_time()
            run()
            if turn:
                found[name].append((time.perf_counter() - began, time.process_time() - worked))
    return found


def described(tokens: int, runs: list[tuple[float, float]]) -> dict:
    seconds, worked = (statistics.median(side) for side in zip(*runs, strict=True))
    return {
        "tokens_per_second": round(tokens / seconds, 1),
        "tokens_per_cpu_second": round(tokens / worked, 1),
    }


def ratio(name: str, result: dict, ours: str, theirs: str) -> dict:
    if theirs not in result:
        return {}
    return {name: {unit: round(result[ours][unit] / result[theirs][unit], 2) for unit in result[ours]}}


if __name__ == "__main__":
    main()
