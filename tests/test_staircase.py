"""Every job in a row as the quickstart runs them, on a corpus of a few dozen scenes."""

import json
import os
import subprocess
import sys

import pytest
from places import REPOSITORY

CODEC = REPOSITORY / "bagpiper_jax/assets/codec_nano.safetensors"
TOWER = REPOSITORY / "bagpiper_jax/assets/tower_nano.safetensors"


@pytest.fixture(scope="module")
def staircase(tmp_path_factory):
    """Working directory after all jobs, and a function that runs one more."""
    directory = tmp_path_factory.mktemp("staircase")

    def job(name: str, *flags: str) -> str:
        result = subprocess.run(
            [sys.executable, "-m", "bagpiper_jax", name, *flags],
            cwd=directory,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "XLA_FLAGS": ""},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert result.returncode == 0, f"{name}: {result.stdout[-2000:]}{result.stderr[-4000:]}"
        return result.stdout

    scenes = {"train_scenes": 48, "validation_scenes": 8, "test_scenes": 8, "text_documents": 16}
    job(
        "build_corpus",
        "--gin_file=gin/corpora/embedded.gin",
        *(f"--gin.EmbeddedCorpusConfig.{name}={count}" for name, count in scenes.items()),
    )
    job("learn_tokenizer", "--gin_file=gin/corpora/tokenizer.gin")
    job("tokenize_audio", "--gin.TokenizeConfig.corpus=corpora/embedded")
    job("cache_tasks", "--gin_file=gin/mixtures/embedded.gin", f"--gin.CacheConfig.codec={CODEC}")
    job("import_checkpoint", "--gin_file=gin/runs/nano_start.gin", f"--gin.ImportConfig.tower={TOWER}")
    short = ["--gin.TrainConfig.steps=6", "--gin.OptimizerConfig.warmup_steps=2", "--gin.BatchShape.rows=2"]
    job("train", "--gin_file=gin/runs/nano_pretrain.gin", f"--gin.TrainConfig.codec={CODEC}", *short)
    job("train", "--gin_file=gin/runs/nano_sft.gin", f"--gin.TrainConfig.codec={CODEC}", *short)
    few = {"captions": 4, "audios": 2, "requests": 2, "exhibits": 2, "rows": 4}
    job(
        "evaluate",
        "--gin_file=gin/runs/evaluate_nano.gin",
        *(f"--gin.EvaluateConfig.{name}={count}" for name, count in few.items()),
        "--gin.TextSampling.max_steps=48",
        "--gin.EvaluateConfig.caption_steps=32",
        "--gin.AudioSampling.max_steps=24",
    )
    return directory, job


@pytest.mark.slow
def test_results_stand_beside_their_baselines_on_one_page(staircase):
    directory, _ = staircase
    results = json.loads((directory / "runs/evaluation/results.json").read_text())["scores"]
    assert {"Audio → caption", "Caption → audio → caption", "Codec", "Validation loss"} <= set(results)
    losses = results["Validation loss"]
    assert all(score["baseline"] > 0 for score in losses.values()) and len(losses) == 2
    page = (directory / "runs/evaluation/report.html").read_text()
    assert page.count("<audio") >= 4 and "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page


@pytest.mark.slow
def test_generate_captions_and_sounds(staircase):
    directory, job = staircase
    clip = next((directory / "corpora/embedded/audio").glob("test-*.flac"))
    limits = [
        "--gin.TextSampling.max_steps=24",
        "--gin.AudioSampling.max_steps=24",
        "--gin.AudioSampling.min_steps=12",
    ]
    settings = [
        "--gin_file=gin/runs/generate_nano.gin",
        "--gin.GenerateConfig.checkpoint=runs/nano_pretrain",
        *limits,
    ]
    assert job("generate", "--audio", str(clip), *settings).strip()
    job("generate", "--text", "A dog barks.", "--output", "out.wav", *settings)
    assert (directory / "out.wav").stat().st_size > 1000


@pytest.mark.slow
def test_inspect_and_resume_of_a_finished_run(staircase):
    directory, job = staircase
    before = (directory / "runs/nano_pretrain/metrics.jsonl").read_bytes()
    job("train", "--gin_file=gin/runs/nano_pretrain.gin", f"--gin.TrainConfig.codec={CODEC}",
        "--gin.TrainConfig.steps=6", "--gin.OptimizerConfig.warmup_steps=2", "--gin.BatchShape.rows=2")  # fmt: skip
    assert (directory / "runs/nano_pretrain/metrics.jsonl").read_bytes() == before
    assert "audio_to_caption" in job(
        "inspect_data",
        "--gin.InspectConfig.lock=cache/embedded_pretraining.lock.json",
        "--gin.InspectConfig.tokenizer=corpora/embedded/tokenizer.json",
    )
