"""docs/evaluation.md: the benchmark of one's own runs as it stands there, and every command can be typed."""

import json
import re
import shlex
import sys

import pytest
from places import REPOSITORY
from runner_helpers import tone, write_lines

from bagpiper_jax import configuration
from bagpiper_jax.evaluation.running.config import BenchmarkConfig
from bagpiper_jax.jobs import benchmark

PAGE = (REPOSITORY / "docs/evaluation.md").read_text(encoding="utf-8")
(SOURCE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [
    re.sub(r"\\\n\s*", "", command)
    for command in re.findall(r"^    (bagpiper benchmark (?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
]


def test_the_benchmark_of_the_page_runs(tmp_path, monkeypatch):
    """Its file as the page shows it, in the working directory, by the command of the page."""
    (tmp_path / "spelling.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "words").mkdir()
    words = ["rain", "piano", "cricket"]
    write_lines(
        tmp_path / "words/words.jsonl",
        [{"id": f"w{n}", "clip": f"{word}.wav", "word": word} for n, word in enumerate(words)],
    )
    for word in words:
        tone(tmp_path / f"words/{word}.wav")
    said = ["<think>It is rain.</think>R-A-I-N", "p i a n o o", "cricket"]
    write_lines(tmp_path / "replies.jsonl", [{"id": f"w{n}", "reply": text} for n, text in enumerate(said)])
    (command,) = [command for command in COMMANDS if "spelling" in command]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    benchmark.main(shlex.split(command)[2:])
    result = json.loads((tmp_path / "runs/spelling/spelling/results.json").read_text())
    (official,) = result["official"]
    assert official["value"] == pytest.approx(200 / 3)
    assert shlex.split(result["command"]) == shlex.split(command)
    short = next(score for score in result["honest"] if score["group"] == ["length", "short"])
    assert (short["value"], short["scored"], short["expected"]) == (50.0, 2, 2)
    assert (tmp_path / "runs/spelling/report.html").is_file()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_can_be_typed(command):
    config = configuration.load(BenchmarkConfig, benchmark._bindings(shlex.split(command)[2:]))
    assert config.benchmarks and config.output


def test_there_are_commands_for_every_kind_of_system():
    assert len(COMMANDS) >= 7
    for part in ("--checkpoint", "--url", "--recorded", "CaptionedSystem", "num_shards"):
        assert any(part in command for command in COMMANDS), part
