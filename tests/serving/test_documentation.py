"""The examples of docs/serving.md run as they are printed."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from places import REPOSITORY
from tiny_server import NAME, file_of

PAGE = (REPOSITORY / "docs/serving.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```(bash|python)\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(served, tmp_path, number):
    kind, text = EXAMPLES[number]
    assert "http://127.0.0.1:8000" in text and "nano_sft" in text
    text = text.replace("http://127.0.0.1:8000", served.url).replace("nano_sft", NAME)
    (tmp_path / "clip.wav").write_bytes(file_of(np.zeros(16_000, np.float32)))
    if kind == "bash" and not shutil.which("curl"):
        pytest.skip("curl is not installed")
    command = ["bash", "-c", f"set -e; {text}"] if kind == "bash" else [sys.executable, "-c", text]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=300)
    assert ended.returncode == 0, ended.stderr.decode()
    made = [path for path in tmp_path.iterdir() if path.name != "clip.wav"]
    if made:
        assert len(soundfile.read(made[0])[0]) > 1000
    else:
        assert ended.stdout.strip() and b'"error"' not in ended.stdout


def test_there_are_examples_of_everything():
    assert [kind for kind, _ in EXAMPLES].count("bash") == 2 and len(EXAMPLES) == 5
