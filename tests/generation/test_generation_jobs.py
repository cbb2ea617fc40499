"""The jobs' gin files build, and flags that contradict each other are refused."""

import argparse
import types

import numpy as np
import pytest

from bagpiper_jax import audio as sound
from bagpiper_jax import configuration
from bagpiper_jax.dialogue import Message
from bagpiper_jax.errors import Explained
from bagpiper_jax.evaluation.job import EvaluateConfig
from bagpiper_jax.generation import replies
from bagpiper_jax.generation.replies import Generator, Reply
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.jobs import generate
from bagpiper_jax.models.configs import BagpiperConfig
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


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--audio=a", "--text=b"],
        ["--text=a", "--question=b"],
        ["--requests=a", "--text=b"],
        ["--requests=a", "--stream"],
        ["--audio=tests", "--stream"],
    ],
)
def test_contradicting_flags_end_the_job(flags, capsys):
    with pytest.raises(SystemExit) as ended:
        generate.main([*flags, "--checkpoint=run"])
    assert ended.value.code == 2 and "error:" in capsys.readouterr().err


@pytest.fixture
def no_model(monkeypatch):
    monkeypatch.setattr(generate, "load_generator", lambda *a: pytest.fail("a model was loaded"))


@pytest.mark.parametrize("output, said", [
    ("a.mp3", r"a\.mp3: audio is written as \.flac or \.wav, not \.mp3"), ("a", "not without a suffix"),
    ("taken.wav", "is a folder"), ("file.wav/a.wav", r"file\.wav is no folder"), ("file.wav/b/a.wav", "is no folder"),
])  # fmt: skip
def test_an_output_that_cannot_be_written_is_refused_before_a_model_is_loaded(
    tmp_path, no_model, output, said
):
    (tmp_path / "taken.wav").mkdir()
    (tmp_path / "file.wav").write_bytes(b"")
    with pytest.raises(Explained, match=said):
        generate.main([f"--checkpoint={tmp_path}", "--text=rain", f"--output={tmp_path / output}"])


def test_a_stream_is_a_wav(tmp_path, no_model):
    with pytest.raises(Explained, match=r"a\.flac: a stream is written as \.wav"):
        generate.main([f"--checkpoint={tmp_path}", "--text=rain", "--stream", f"--output={tmp_path}/a.flac"])


@pytest.mark.parametrize("name, said", [("no.wav", "no such file"), ("text.wav", "corrupt")])
def test_audio_that_cannot_be_read_is_refused_before_a_model_is_loaded(tmp_path, no_model, name, said):
    (tmp_path / "text.wav").write_text("words")
    with pytest.raises(Explained, match=said):
        generate.main([f"--checkpoint={tmp_path}", f"--audio={tmp_path / name}"])


def test_a_missing_folder_of_the_output_is_made(tmp_path, monkeypatch):
    class Loud(Generator):
        def reply(self, dialogues, config, rows=None):
            return [Reply("", np.full(320, 0.5, np.float32), True)]

    loud = Loud(None, ByteTokenizer(), None, {"system_prompt": ""})
    monkeypatch.setattr(generate, "load_generator", lambda *a: loud)
    output = tmp_path / "new" / "folder" / "A.FLAC"
    generate.main([f"--checkpoint={tmp_path}", "--text=rain", f"--output={output}"])
    assert len(sound.read(output)) == 320


def test_a_directory_that_is_no_run_is_named(tmp_path):
    with pytest.raises(Explained, match="no config.json"):
        generate.main([f"--checkpoint={tmp_path}", "--text=rain"])


@pytest.mark.parametrize(
    "behind",
    [
        [],
        [Message("user", "text", "and now shorter")],
        [Message("user", "audio", np.zeros(1600, np.float32)), Message("assistant", "text", "a horn")],
    ],
)
def test_a_dialogue_is_asked_up_to_the_first_message_of_the_assistant(monkeypatch, behind):
    """Questions that follow an answer were asked about that answer, which the model has not given yet."""
    asked = []
    monkeypatch.setattr(Generator, "_core", lambda *_: None)
    monkeypatch.setattr(
        replies, "answer", lambda core, prompts, *_, **__: asked.extend(prompts) or [()] * len(prompts)
    )
    generator = Generator(types.SimpleNamespace(config=BagpiperConfig()), ByteTokenizer())
    before = [Message("system", "text", "Listen."), Message("user", "text", "what is it?")]
    generator.reply(
        [before, [*before, Message("assistant", "text", "rain"), *behind]], LoopConfig(modalities=("text",))
    )
    np.testing.assert_array_equal(asked[1].tokens, asked[0].tokens)
    assert not asked[1].audio
