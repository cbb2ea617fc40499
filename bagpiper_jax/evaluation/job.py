"""Scores a trained model on held-out clips and writes the report."""

import contextlib
import dataclasses
import json
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bagpiper_jax import files
from bagpiper_jax.evaluation import outputs, sections
from bagpiper_jax.evaluation.held_out import Corpus, EvaluationError, read_corpus
from bagpiper_jax.evaluation.report import Exhibit, write_report
from bagpiper_jax.evaluation.scores import Score
from bagpiper_jax.evaluation.training_run import Run, is_number, part_of, read_run
from bagpiper_jax.generation.config import WeightsConfig
from bagpiper_jax.generation.replies import Generator, load_generator
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.runs.progress import Underway

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """What is scored, and on how much.

    Attributes:
        corpus: directory of a corpus's manifest.
        output: the directory of results.json, predictions.jsonl and report.html.
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
        rows: clips decoded at once.
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
    rows: int = 48
    caption_steps: int = 256
    loop: LoopConfig = LoopConfig()
    system_prompt: str | None = None
    seed: int = 0
    audible: bool = True

    def __post_init__(self):
        if min(self.captions, self.rows, self.caption_steps) < 1:
            raise ValueError("captions, rows and caption_steps must be at least 1")
        if min(self.audios, self.requests, self.exhibits, self.seed) < 0:
            raise ValueError("audios, requests, exhibits and seed must be at least 0")


def evaluate(config: EvaluateConfig) -> dict[str, dict[str, Score]]:
    """Scores, and writes `results.json`, `predictions.jsonl` and `report.html` to `config.output`.

    Returns:
        section → name → score.

    Raises:
        EvaluationError: no checkpoint is named, the corpus has nothing to score, or the output cannot be written.
        Explained: a checkpoint, codec or tokenizer cannot be loaded.
    """
    if not config.checkpoint and not config.sft_checkpoint:
        raise EvaluationError("name a run: EvaluateConfig.checkpoint or EvaluateConfig.sft_checkpoint")
    outputs.make(config.output, "EvaluateConfig.output", EvaluationError)
    corpus = read_corpus(config.corpus, config.split, config.captions)
    evaluation = _Evaluation(config, corpus)
    with Underway("loading the runs"):
        base = _load(config, config.checkpoint)
        tuned = _load(config, config.sft_checkpoint)
    if base is not None:
        evaluation.directions(base)
    if tuned is not None:
        evaluation.dialogues(tuned, base or tuned)
    evaluation.write()
    return evaluation.scores


def _load(config: EvaluateConfig, checkpoint: str) -> Generator | None:
    if not checkpoint:
        return None
    return load_generator(checkpoint, config.codec, config.tokenizer, config.weights)


class _Evaluation:
    """Scores and outputs as they come in."""

    def __init__(self, config: EvaluateConfig, corpus: Corpus):
        self.config, self.corpus = config, corpus
        self.scores: dict[str, dict[str, Score]] = {}
        self.codebooks: list = []
        self.questions: list = []
        self.requests: list = []
        self.exhibits = [
            Exhibit(f"{e.clip.id} · {e.clip.domain}", e.waveform, e.clip.caption or "")
            for e in corpus.held_out
        ]

    def directions(self, generator: Generator) -> None:
        """Both directions of pretraining, and the codec between them."""
        config, loop = self.config, _captions_of(self.config)
        with _timed("audio to caption"):
            scores, said = sections.captioning(generator, self.corpus, loop, config.rows)
        right = sections.kinds_right(said, self.corpus.held_out)
        self._take("Audio → caption", scores, heard=said, heard_right=right)
        if generator.codec is None:
            _log.warning("the run names no codec: caption to audio is not scored")
        if generator.codec is None or not config.audios:
            return
        fewer = self.corpus.first(config.audios)
        with _timed("codec"):
            codec_scores, details, copies = sections.codec(generator, fewer)
        with _timed("caption to audio and back"):
            scores, sounded, heard = sections.sounding(generator, fewer, copies, loop, config.rows)
        right = sections.kinds_right(heard, fewer.held_out)
        self._take(
            "Caption → audio → caption", scores,
            generated=[reply.audio for reply in sounded], reheard=heard, reheard_right=right,
        )  # fmt: skip
        self._take("Codec", codec_scores, codec_copy=copies)
        self.codebooks = details["codebooks"]

    def dialogues(self, tuned: Generator, listener: Generator) -> None:
        """Questions and requests to the tuned model."""
        config = self.config
        with _timed("questions"):
            scores, topics, self.questions = sections.understanding(
                tuned, self.corpus, config.loop, config.rows, config.seed
            )
        self._take("Question → caption, reasoning, answer", scores)
        self._take("Answers by topic", topics)
        if tuned.codec is not None:
            prompt = tuned.system_prompt if config.system_prompt is None else config.system_prompt
            with _timed("requests"):
                scores, self.requests = sections.requests(
                    tuned, listener, self.corpus.first(config.requests), config.loop, config.rows,
                    prompt, config.seed,
                )  # fmt: skip
            self._take("Request → reasoning, caption, audio", scores)

    def _take(self, section: str, scores: dict[str, Score], **outputs) -> None:
        self.scores[section] = scores
        for name, values in outputs.items():
            for i, value in enumerate(values):
                self.exhibits[i] = dataclasses.replace(self.exhibits[i], **{name: value})
        for name, score in scores.items():
            _log.info(
                "%s: %.3f (n=%d, baseline %s, deaf %s, ceiling %s)",
                name, score.value, score.n, score.baseline, score.deaf, score.ceiling,
            )  # fmt: skip

    def write(self) -> None:
        """The three files, the report last."""
        config, output = self.config, Path(self.config.output)
        runs = [
            read_run(name, _run_directory(path))
            for name, path in (("pretraining", config.checkpoint), ("tuning", config.sft_checkpoint))
            if path
        ]
        self.scores["Validation loss"] = _losses(runs)
        plain = {s: {n: _plain(score) for n, score in table.items()} for s, table in self.scores.items()}
        training = {run.name: dict(run.summary) for run in runs}
        results = {"scores": plain, "codebooks": self.codebooks, "training": training}
        files.replace(output / "results.json", json.dumps(results, indent=1, sort_keys=True) + "\n")
        lines = [_without_audio(e) for e in self.exhibits] + [
            _without_audio(d) for d in self.questions + self.requests
        ]
        files.replace(
            output / "predictions.jsonl",
            "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines),
        )
        shown = self.questions[: config.exhibits // 2] + self.requests[: config.exhibits // 2]
        with Underway("drawing the report"):
            page = write_report(
                output / "report.html", config.title, self.scores, runs, self.exhibits[: config.exhibits],
                self.codebooks, shown, config.audible,
            )  # fmt: skip
        _log.info("wrote %s (%.1f MB)", page, page.stat().st_size / 1e6)


def _losses(runs: list[Run]) -> dict[str, Score]:
    """The runs' last validation losses beside the unigram model's."""
    note = "nats per frame on held-out rows; baseline: token frequencies of the training rows"
    found = {}
    for run in runs:
        last = part_of(run.summary, "validation")
        loss, unigram = last.get("loss"), last.get("unigram_loss")
        if is_number(loss):
            baseline = unigram if is_number(unigram) else None
            found[run.name] = Score(loss, 0, baseline, higher_is_better=False, is_share=False, note=note)
    return found


def _captions_of(config: EvaluateConfig) -> LoopConfig:
    steps = max(config.caption_steps, config.loop.text.min_steps)
    return dataclasses.replace(config.loop, text=dataclasses.replace(config.loop.text, max_steps=steps))


def _run_directory(checkpoint: str) -> Path:
    """The run's output directory, whether it or one of its steps was named."""
    path = Path(checkpoint).absolute()
    return next((p for p in (path, *path.parents[:2]) if (p / "metrics.jsonl").exists()), path)


def _plain(score: Score) -> dict:
    values = dataclasses.asdict(score)
    return {k: None if isinstance(x, float) and not math.isfinite(x) else x for k, x in values.items()}


def _without_audio(record) -> dict:
    values = vars(record) if dataclasses.is_dataclass(record) else record
    return {k: x for k, x in values.items() if x is not None and not isinstance(x, np.ndarray)}


@contextlib.contextmanager
def _timed(what: str) -> Iterator[None]:
    start = time.monotonic()
    with Underway(what):
        yield
    _log.info("%s took %.1f s", what, time.monotonic() - start)
