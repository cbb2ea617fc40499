"""The benchmarks by name: ours, and those of a user's modules."""

import importlib
from collections.abc import Callable
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.protocol import Benchmark, Tools

_OURS: dict[str, str] = {
    "mmau": "mmau:Mmau",
    "mmar": "mmar:Mmar",
    "air_bench_foundation": "air_bench_foundation:AirBenchFoundation",
    "air_bench_chat": "air_bench_chat:AirBenchChat",
    "open_qa": "open_qa:OpenQa",
    "asr": "asr:Asr",
    "seed_tts": "seed_tts:SeedTts",
    "cv3": "cv3:Cv3",
    "text_to_audio": "text_to_audio:TextToAudio",
    "cycle": "cycle:Cycle",
    "scenes": "scenes.captioning:Scenes",
    "scene_dialogues": "scenes.dialogues:SceneDialogues",
}
"""Name → "module:Class" below this package; imported when asked for."""

_THEIRS: dict[str, Callable[[Path, Tools], Benchmark]] = {}


def register(make: type[Benchmark]) -> type[Benchmark]:
    """Makes a class known under its `name`; a user's module decorates its benchmark with it."""
    _THEIRS[make.name] = make
    return make


def names() -> list[str]:
    """All that can be asked for."""
    return sorted({*_OURS, *_THEIRS})


def open_benchmark(name: str, files: str | Path, tools: Tools) -> Benchmark:
    """A benchmark over its files. Raises BenchmarkError: there is none of that name, or files are missing."""
    if name in _THEIRS:
        return _THEIRS[name](Path(files), tools)
    if name not in _OURS:
        raise BenchmarkError(f"there is no benchmark {name!r}; there are {', '.join(names())}")
    module, _, cls = _OURS[name].partition(":")
    return getattr(importlib.import_module(f"{__package__}.{module}"), cls)(Path(files), tools)
