"""The jobs' gin files build, and flags that contradict each other are refused."""

import argparse

import numpy as np
import pytest

from bagpiper_jax import configuration
from bagpiper_jax.dialogue import Message
from bagpiper_jax.errors import Explained
from bagpiper_jax.evaluation.job import EvaluateConfig
from bagpiper_jax.generation.replies import Generator, Reply
from bagpiper_jax.jobs import generate
from bagpiper_jax.text import ByteTokenizer


def test_the_nano_files_build():
    made = configuration.load(
        generate.GenerateConfig,
        ["--gin_file=gin/runs/generate_nano.gin", "--gin.GenerateConfig.checkpoint=run"],
    )
    assert made.loop.audio.guidance == 1.5 and made.loop.text.temperature == 0.0
    scored = configuration.load(EvaluateConfig, ["--gin_file=gin/runs/evaluate_nano.gin"])
    assert scored.loop.audio == made.loop.audio and scored.loop.text == made.loop.text


def test_defaults_are_the_release_s():
    loop = configuration.load(generate.GenerateConfig, ["--gin.GenerateConfig.checkpoint=run"]).loop
    assert (loop.text.temperature, loop.text.top_k, loop.text.guidance, loop.text.max_steps) == (
        0.6,
        20,
        1,
        8192,
    )
    audio = loop.audio
    assert (audio.temperature, audio.top_k, audio.guidance, audio.min_steps, audio.max_steps) == (
        0.8,
        20,
        3,
        50,
        2048,
    )


@pytest.mark.parametrize("configured, used", [(None, "Compose with care."), ("", None), ("Sing.", "Sing.")])
def test_a_request_opens_as_the_run_was_tuned(tmp_path, configured, used):
    asked = []

    class Recorded(Generator):
        def reply(self, dialogues, config, rows=None):
            asked.extend(dialogues)
            return [Reply("", np.zeros(320, np.float32), True)]

    flags = argparse.Namespace(audio=None, text="rain", question=None, output=str(tmp_path / "a.wav"))
    generator = Recorded(None, ByteTokenizer(), None, {"system_prompt": "Compose with care."})
    generate.answer(generator, flags, generate.GenerateConfig("run", system_prompt=configured))
    system = [Message("system", "text", used)] if used else []
    assert asked == [[*system, Message("user", "text", "rain")]]


@pytest.mark.parametrize("flags", [[], ["--audio=a", "--text=b"], ["--text=a", "--question=b"]])
def test_contradicting_flags_end_the_job(flags, capsys):
    with pytest.raises(SystemExit) as ended:
        generate.main([*flags, "--checkpoint=run"])
    assert ended.value.code == 2 and "error:" in capsys.readouterr().err


def test_a_directory_that_is_no_run_is_named(tmp_path):
    with pytest.raises(Explained, match="no config.json"):
        generate.main([f"--checkpoint={tmp_path}", "--text=rain"])
