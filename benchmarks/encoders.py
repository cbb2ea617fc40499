"""Full-size X-Codec and audio tower on ten seconds of audio: ours beside transformers on PyTorch, in one run.

    python benchmarks/encoders.py [--seconds=10] [--repeats=5] [--threads=2] [--only=codec|tower]

Random float32 weights, the same on both sides; the two take turns, and their results are compared. Needs the
`interop` extra. Prints one JSON object: median seconds of either side, their ratio, compile seconds, and the largest
relative difference of the results.
"""

import argparse
import json
import platform
import statistics
import time

import jax
import numpy as np
import torch
from flax import nnx

from bagpiper_jax.interop.tables import tower as tower_names
from bagpiper_jax.interop.tables import xcodec
from bagpiper_jax.interop.tables.grammar import to_theirs
from bagpiper_jax.models.audio_tower import AudioTower
from bagpiper_jax.models.codecs.xcodec import functional
from bagpiper_jax.models.configs import AudioTowerConfig, CodecConfig
from bagpiper_jax.models.parameters import flatten

RATE, CHUNK = 16_000, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("codec", "tower"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.set_grad_enabled(False)
    results = {}
    if given.only != "tower":
        results |= codec(given.seconds, given.repeats)
    if given.only != "codec":
        results |= tower(given.seconds, given.repeats)
    machine = f"{platform.machine()}, {given.threads} threads for torch, {jax.device_count()} JAX CPU device"
    versions = {"jax": jax.__version__, "torch": torch.__version__}
    print(
        json.dumps({"machine": machine, **versions, "seconds_of_audio": given.seconds, **results}, indent=1)
    )


def codec(seconds: int, repeats: int) -> dict:
    import transformers

    config = CodecConfig()
    torch.manual_seed(0)
    model = transformers.XcodecModel(transformers.XcodecConfig()).eval()
    for quantizer in model.quantizer.quantizers:
        torch.nn.init.normal_(quantizer.codebook.embed)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    parameters = jax.device_put(xcodec.to_ours(state, config))
    waveform = (0.2 * np.random.default_rng(0).standard_normal((1, seconds * RATE))).astype(np.float32)
    codes = model.encode(torch.from_numpy(waveform)[:, None]).audio_codes
    ours = codes.numpy().transpose(0, 2, 1).astype(np.int32)
    return {
        "codec_encode": compare(
            lambda: functional.encode(parameters, config, waveform),
            lambda: model.encode(torch.from_numpy(waveform)[:, None]).audio_codes.numpy().transpose(0, 2, 1),
            repeats,
        ),
        "codec_decode": compare(
            lambda: functional.decode(parameters, config, ours),
            lambda: model.decode(codes).audio_values[:, 0].numpy(),
            repeats,
        ),
    }


def tower(seconds: int, repeats: int) -> dict:
    from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as modeling
    from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeAudioEncoderConfig

    config = AudioTowerConfig(dtype="float32")
    ours = nnx.jit(lambda: AudioTower(config, rngs=nnx.Rngs(0)))()
    values = {
        f"tower/{n}": np.asarray(x) for n, x in flatten(nnx.to_pure_dict(nnx.state(ours, nnx.Param))).items()
    }
    settings = Qwen3OmniMoeAudioEncoderConfig(
        num_mel_bins=config.mel_bins, encoder_layers=config.layers, encoder_attention_heads=config.heads,
        encoder_ffn_dim=config.ffn_width, d_model=config.width, output_dim=config.output_width,
        downsample_hidden_size=config.conv_channels, n_window=50, n_window_infer=CHUNK * config.window_chunks,
    )  # fmt: skip
    theirs = modeling.Qwen3OmniMoeAudioEncoder(settings).eval()
    entries = tower_names.entries({n: x.shape for n, x in values.items()})
    theirs.load_state_dict({n: torch.from_numpy(np.array(x)) for n, x in to_theirs(entries, values)})
    del values
    frames = seconds * CHUNK
    mel = np.random.default_rng(0).standard_normal((frames, config.mel_bins)).astype(np.float32)
    one = np.ones((1, seconds), np.int32)
    windows = np.arange(seconds, dtype=np.int32)[None] // config.window_chunks + 1
    inputs = (mel.reshape(1, seconds, CHUNK, -1), CHUNK * one, one, windows)
    graph, state = nnx.split(ours)
    run = jax.jit(lambda state, *arrays: nnx.merge(graph, state)(*arrays)[0])
    features, lengths = torch.from_numpy(mel.T.copy()), torch.tensor([frames])
    return {
        "tower": compare(
            lambda: run(state, *inputs),
            lambda: theirs(features, feature_lens=lengths).last_hidden_state.numpy(),
            repeats,
        )
    }


def compare(ours, theirs, repeats: int) -> dict:
    """Turns of both after one of each that is not counted; our first one compiles."""
    began = time.perf_counter()
    mine = np.asarray(ours())
    first = time.perf_counter() - began
    other = theirs()
    difference = np.abs(np.asarray(mine, np.float64) - other).max() / np.abs(other).max()
    times = [(timed(ours), timed(theirs)) for _ in range(repeats)]
    a, b = (statistics.median(side) for side in zip(*times, strict=True))
    return {
        "ours_seconds": round(a, 3),
        "torch_seconds": round(b, 3),
        "torch_over_ours": round(b / a, 2),
        "compile_seconds": round(first - a, 1),
        "largest_relative_difference": float(f"{difference:.2g}"),
    }


def timed(run) -> float:
    began = time.perf_counter()
    np.asarray(run())
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
