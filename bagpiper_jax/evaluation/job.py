"""Scores the runs of a chain on held-out clips: the benchmarks of scenes, training curves, and one page of it all."""

import dataclasses
import functools
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bagpiper_jax import files
from bagpiper_jax.evaluation import outputs
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError, MissingEvaluatorError
from bagpiper_jax.evaluation.benchmarks.protocol import Score
from bagpiper_jax.evaluation.benchmarks.scenes.captioning import Scenes
from bagpiper_jax.evaluation.benchmarks.scenes.corpus import Sizes
from bagpiper_jax.evaluation.benchmarks.scenes.dialogues import SceneDialogues
from bagpiper_jax.evaluation.evaluators.captioner import Captioner
from bagpiper_jax.evaluation.evaluators.codec import CodecEvaluator
from bagpiper_jax.evaluation.results.record import Result
from bagpiper_jax.evaluation.results.scenes import exhibits
from bagpiper_jax.evaluation.results.scenes.page import write_report
from bagpiper_jax.evaluation.results.scenes.training_run import Run, losses, read_run
from bagpiper_jax.evaluation.running.config import BenchmarkConfig
from bagpiper_jax.evaluation.running.job import run
from bagpiper_jax.evaluation.running.predictions import plain
from bagpiper_jax.evaluation.systems.config import CheckpointSystem
from bagpiper_jax.generation.config import EngineConfig, WeightsConfig
from bagpiper_jax.generation.replies import Generator, load_generator
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.runs.progress import Underway

BENCHMARKS = "benchmarks"
"""The folder of what the runner writes, below the output."""
_Kind = type[Scenes] | type[SceneDialogues]
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """What is scored, and on how much.

    Attributes:
        corpus: directory of a corpus's manifest.
        output: the directory of results.json, report.html, and of what `bagpiper benchmark` writes, in benchmarks/.
        checkpoint: pretraining run, or one of its steps.
        sft_checkpoint: run tuned to caption first; "" leaves the dialogues out.
        codec, tokenizer: instead of those the runs were trained with.
        weights: where the models lie, and in which precision.
        title: the title of the report.
        split: clips of this split are scored; training clips give the baselines.
        captions: clips to caption, and to ask a question about.
        audios: the number of those whose captions are turned into audio, and whose audio passes through the codec.
        requests: the number of those that become requests to the tuned model.
        exhibits: the number of those that are shown on the page.
        engine: sizes of the engine that asks, whose rows are also the clips that are heard at once.
        caption_steps: longest caption in tokens; `loop.text.max_steps` bounds whole replies.
        loop: sampling.
        system_prompt: opens requests if not empty; None takes the one that the run was tuned with.
        seed: the seed of the choice of questions and requests.
        audible: embed the audio in the page; leave it out where licences forbid passing recordings on.
    """

    corpus: str
    output: str
    checkpoint: str = ""
    sft_checkpoint: str = ""
    codec: str = ""
    tokenizer: str = ""
    weights: WeightsConfig = WeightsConfig()
    title: str = "Bagpiper on held-out clips"
    split: str = "test"
    captions: int = 96
    audios: int = 48
    requests: int = 24
    exhibits: int = 12
    engine: EngineConfig = EngineConfig(rows=48, context=4096, steps=16)
    caption_steps: int = 256
    loop: LoopConfig = LoopConfig()
    system_prompt: str | None = None
    seed: int = 0
    audible: bool = True

    def __post_init__(self):
        if min(self.captions, self.caption_steps) < 1:
            raise ValueError("captions and caption_steps must be at least 1")
        if min(self.audios, self.requests, self.exhibits, self.seed) < 0:
            raise ValueError("audios, requests, exhibits and seed must be at least 0")


def evaluate(config: EvaluateConfig) -> dict[str, dict[str, Score]]:
    """Scores, and writes `results.json` and `report.html` to `config.output`. Killed, the same call goes on.

    Returns:
        section → name → score.

    Raises:
        BenchmarkError: no checkpoint is named, the corpus has nothing to score, or the output cannot be written.
        Explained: a checkpoint, codec or tokenizer cannot be loaded.
    """
    if not config.checkpoint and not config.sft_checkpoint:
        raise BenchmarkError("name a run: EvaluateConfig.checkpoint or EvaluateConfig.sft_checkpoint")
    output = outputs.make(config.output, "EvaluateConfig.output", BenchmarkError)
    judges = _Judges(config)
    asked: list[tuple[_Kind, str]] = [(Scenes, config.checkpoint), (SceneDialogues, config.sft_checkpoint)]
    results = [_benchmark(config, kind, path, judges) for kind, path in asked if path]
    runs = [
        read_run(name, _run_directory(path))
        for name, path in (("pretraining", config.checkpoint), ("tuning", config.sft_checkpoint))
        if path
    ]
    scores = _sections(results) | {"Validation loss": {score.name: score for score in losses(runs)}}
    plainly = {section: {n: plain(score) for n, score in table.items()} for section, table in scores.items()}
    training = {run.name: dict(run.summary) for run in runs}
    told = json.dumps({"scores": plainly, "training": training}, indent=1, sort_keys=True)
    files.replace(output / "results.json", told + "\n")
    with Underway("drawing the report"):
        _draw(config, scores, results, runs, judges)
    return scores


def _benchmark(config: EvaluateConfig, kind: _Kind, checkpoint: str, judges: "_Judges") -> Result:
    system = CheckpointSystem(
        checkpoint, "", config.codec, config.tokenizer, config.weights, config.system_prompt, config.loop,
        config.engine,
    )  # fmt: skip
    sizes = Sizes(
        config.split, config.captions, config.audios, config.requests,
        max(config.caption_steps, config.loop.text.min_steps), config.loop.text.max_steps, config.seed,
    )  # fmt: skip
    asked = BenchmarkConfig({kind.name: config.corpus}, system, str(Path(config.output) / BENCHMARKS))
    start = time.monotonic()
    (result,) = run(asked, opens=judges.open, make=lambda name, place, tools: kind(Path(place), tools, sizes))
    _log.info("%s took %.1f s", kind.name, time.monotonic() - start)
    for score in result.official:
        if score.group[0] == "section":
            _log.info(
                "%s: %s %s (n=%d, baseline %s, deaf %s, ceiling %s)",
                score.name, score.value, score.unit, score.expected, score.baseline, score.deaf, score.ceiling,
            )  # fmt: skip
    return result


class _Judges:
    """The evaluators: the pretraining run, else the tuned one, hears; its codec makes the copies."""

    def __init__(self, config: EvaluateConfig):
        self._config = config

    @functools.cached_property
    def _run(self) -> str:
        return self._config.checkpoint or self._config.sft_checkpoint

    @functools.cached_property
    def _generator(self) -> Generator:
        config = self._config
        return load_generator(self._run, config.codec, config.tokenizer, config.weights)

    @functools.cached_property
    def captioner(self) -> Captioner:
        config = self._config
        steps = max(config.caption_steps, config.loop.text.min_steps)
        text = dataclasses.replace(config.loop.text, max_steps=steps)
        loop = dataclasses.replace(config.loop, text=text)
        return Captioner(Path(self._run), self._generator, loop, config.engine.rows)

    @property
    def codec(self) -> CodecEvaluator | None:
        found = self._generator.codec
        return None if found is None else CodecEvaluator(f"codec_{Path(self._run).absolute().name}", found)

    def open(self, name: str, path: str = "") -> Any:
        """As `open_evaluator`."""
        if name == "captioner":
            return self.captioner
        if name == "codec" and self.codec is not None:
            return self.codec
        raise MissingEvaluatorError(
            f"{name}: the run {self._run} has none; name one with EvaluateConfig.codec"
        )


def _sections(results: Sequence[Result]) -> dict[str, dict[str, Score]]:
    """Section → name → score, in the order of the benchmarks."""
    found: dict[str, dict[str, Score]] = {}
    for score in (score for result in results for score in result.official):
        kind, section = score.group
        if kind == "section":
            found.setdefault(section, {})[score.name] = score
    return found


def _draw(
    config: EvaluateConfig,
    scores: Mapping[str, Mapping[str, Score]],
    results: Sequence[Result],
    runs: Sequence[Run],
    judges: _Judges,
) -> None:
    output = Path(config.output)
    folders = {result.benchmark: output / BENCHMARKS / result.benchmark for result in results}
    half = config.exhibits // 2
    codec = None if judges.codec is None else judges.codec.codec
    captioned, spoken = (folders.get(each.name) for each in (Scenes, SceneDialogues))
    page = write_report(
        output / "report.html", config.title, scores, runs,
        exhibits.clips(captioned, config.exhibits, codec) if captioned else (),
        exhibits.codebooks(score for result in results for score in result.official),
        exhibits.dialogues(spoken, half) if spoken else (),
        config.audible,
    )  # fmt: skip
    _log.info("wrote %s (%.1f MB)", page, page.stat().st_size / 1e6)


def _run_directory(checkpoint: str) -> Path:
    """The run's output directory, whether it or one of its steps was named."""
    path = Path(checkpoint).absolute()
    return next((p for p in (path, *path.parents[:2]) if (p / "metrics.jsonl").exists()), path)
