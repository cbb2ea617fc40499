"""docs/your_data.md: each of its lines, one after the other, on a folder of a dozen recordings."""

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import soundfile
from places import REPOSITORY

from bagpiper_jax import audio, configuration
from bagpiper_jax.jobs import JOBS
from bagpiper_jax.manifest import read_manifest
from bagpiper_jax.training.config import TrainConfig

PAGE = (REPOSITORY / "docs/your_data.md").read_text(encoding="utf-8")
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"(?m)(?:^ {4}.*\n)+", PAGE)]

SIZES = {
    "train": "--gin.TrainConfig.steps=4 --gin.TrainConfig.validate_every=2 --gin.TrainConfig.save_every=2 "
    "--gin.OptimizerConfig.warmup_steps=2 --gin.BatchShape.rows=2",
    "inspect_data": "--gin.TrainConfig.steps=4",
    "evaluate": "--gin.EvaluateConfig.captions=2 --gin.EvaluateConfig.audios=1 --gin.EvaluateConfig.requests=1 "
    "--gin.EvaluateConfig.rows=2 --gin.EvaluateConfig.caption_steps=16 --gin.TextSampling.max_steps=24 "
    "--gin.AudioSampling.max_steps=24",
    "generate": "--gin.TextSampling.max_steps=24 --gin.AudioSampling.max_steps=24",
}
"""Job → what makes it small."""


def commands() -> list[list[str]]:
    """The page's commands as words."""
    joined = "".join(BLOCKS).replace("\\\n", " ")
    return [shlex.split(line) for line in joined.splitlines() if line.strip()]


def test_every_line_is_a_command_that_the_test_runs():
    programs = [words[0] for words in commands()]
    assert programs == ["pip"] + ["bagpiper"] * (len(programs) - 1) and len(programs) > 9
    assert {words[1] for words in commands()[1:]} <= set(JOBS)


def test_the_run_of_the_8b_model_takes_the_cache_of_the_page():
    lock = re.search(r"`--gin\.(TrainConfig\.train_lock=\S+?)`", PAGE)[1]
    config = configuration.build(TrainConfig, ["gin/runs/sft_8b_h100_x8.gin"], [lock])
    assert (
        config.train_lock
        == "cache/user_tuning.lock.json"
        == configuration.build(TrainConfig, ["gin/runs/user_sft.gin"]).train_lock
    )


def write_recordings(folder):
    """A dozen short ones, one with a caption alone, and one that lasts a minute."""
    rng = np.random.default_rng(0)
    for number in range(12):
        rate, seconds = (16_000, 44_100, 22_050)[number % 3], 1.5 + number / 8
        times = np.arange(round(seconds * rate)) / rate
        soundfile.write(folder / f"{number}.wav", 0.3 * np.sin(2 * np.pi * (220 + 40 * number) * times), rate)
        sound = {"label": ("bell", "hum", "whistle")[number % 3], "start": 0.1, "end": 1.2}
        told = {"annotation": {"duration": seconds, "sounds": [sound]}, "domain": "sound"}
        (folder / f"{number}.json").write_text(json.dumps(told))
    soundfile.write(folder / "rain.wav", 0.1 * rng.standard_normal(32_000), 16_000)
    (folder / "rain.txt").write_text("Rain falls on a tin roof.\n")
    soundfile.write(folder / "long.wav", 0.1 * rng.standard_normal(8_000 * 60), 8_000)
    told = {"duration": 60, "sounds": [{"label": "rain", "start": 0, "end": 60}]}
    (folder / "long.json").write_text(json.dumps({"annotation": told, "split": "train"}))
    for name, split in (("0", "train"), ("1", "validation"), ("2", "test"), ("3", "test")):
        fields = json.loads((folder / f"{name}.json").read_text())
        (folder / f"{name}.json").write_text(json.dumps({**fields, "split": split}))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_folder_becomes_a_model_of_ones_own_that_is_scored_and_heard(tmp_path):
    (tmp_path / "recordings").mkdir()
    write_recordings(tmp_path / "recordings")
    sized = "".join(f'{job}) set -- "$@" {flags} ;;\n' for job, flags in SIZES.items())
    program = (
        f'bagpiper() {{\ncase "$1" in\n{sized}esac\n{shlex.quote(sys.executable)} -m bagpiper_jax "$@"\n}}\n'
    )
    script = f"set -eu\npip() {{ :; }}\n{program}" + "".join(BLOCKS)
    ended = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-6000:]
    clips = {clip.id: clip for clip in read_manifest(tmp_path / "corpora/user")}
    assert {clip.split for clip in clips.values()} == {"train", "validation", "test"}
    pieces = [clip for clip in clips.values() if clip.start is not None]
    assert sum(clip.duration for clip in pieces) == pytest.approx(60, abs=0.1) and len(clips) == 13 + len(
        pieces
    )
    assert "BatchShape.slots = " in (tmp_path / "batch.gin").read_text() and "valid: no limit" in ended.stdout
    scores = json.loads((tmp_path / "runs/user_evaluation/results.json").read_text())["scores"]
    assert {"Audio → caption", "Caption → audio → caption", "Validation loss"} <= set(scores)
    assert len(audio.read(tmp_path / "runs/rain.wav")) > 1000
    assert (tmp_path / "runs/user_evaluation/report.html").read_text().count("<audio") >= 2
