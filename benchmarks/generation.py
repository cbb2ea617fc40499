"""Tokens per second of the engine on this machine, beside transformers' `generate` with a static cache.

    python benchmarks/generation.py --gin_file=gin/models/nano.gin --rows=16
    python benchmarks/generation.py --gin_file=gin/models/0.6b.gin --gin.DecoderConfig.layers=4 \\
        --gin.DecoderConfig.dtype="'float32'" --rows=16 --slots=8448

Random weights. Both sides write text greedily, `--tokens` behind a prompt of `--prompt` tokens in each of `--rows`
dialogues, with `--slots` allocated for each, and take turns. Ours also makes guided audio, and answers dialogues of
very different lengths, four times as many as it has rows, at once and batch by batch. Prints one JSON object. On a busy
machine the CPU seconds tell more than those on the clock.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--slots", type=int, default=512, help="allocated for each row")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--without_torch", action="store_true")
    given, flags = parser.parse_known_args()
    config = configuration.load(BagpiperConfig, flags)
    model = nnx.jit(lambda: Bagpiper(config, rngs=nnx.Rngs(0)))()
    core = EngineCore(model, EngineConfig(given.rows, context=given.slots))
    prompts = [prompt_of(config, given.prompt, row) for row in range(given.rows)]
    sides = {"text": lambda: answer(core, prompts, writing(given.tokens))}
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
        "spread_of_lengths": spread(core, config, given),
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


def spread(core: EngineCore, config: BagpiperConfig, given: argparse.Namespace) -> dict:
    """Replies of `--tokens` / 16 to `--tokens`: all given to the engine, and in batches that end with their longest."""
    rng = np.random.default_rng(0)
    lengths = (
        np.exp(rng.uniform(np.log(given.tokens / 16), np.log(given.tokens), 4 * given.rows)).astype(int) + 1
    )
    asked = [(prompt_of(config, given.prompt, n), writing(int(length))) for n, length in enumerate(lengths)]

    def batch(part):
        requests = [core.add(*each) for each in part]
        while not core.is_idle:
            while core.feed():
                pass
            core.decode()
        return requests

    def static():
        for start in range(0, len(asked), given.rows):
            batch(asked[start : start + given.rows])

    runs = measure({"continuous": lambda: batch(asked), "static": static}, given.repeats)
    result = {name: described(int(lengths.sum()), found) for name, found in runs.items()}
    return result | ratio("continuous_over_static", result, "continuous", "static")


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
