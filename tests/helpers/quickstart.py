"""launch/quickstart.sh as it stands, in a repository of its own, on a few dozen scenes and for a few steps."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from places import REPOSITORY

SIZES = {
    "build_corpus": {
        "EmbeddedCorpusConfig": {
            "train_scenes": 48, "validation_scenes": 8, "test_scenes": 8, "text_documents": 16,
        },
    },
    "train": {
        "TrainConfig": {"steps": 6, "save_every": 2}, "OptimizerConfig": {"warmup_steps": 2}, "BatchShape": {"rows": 2},
    },
    "evaluate": {
        "EvaluateConfig": {
            "captions": 4, "audios": 2, "requests": 2, "exhibits": 2, "caption_steps": 32,
        },
        "EngineConfig": {"rows": 4}, "TextSampling": {"max_steps": 48}, "AudioSampling": {"max_steps": 24},
    },
}  # fmt: skip
"""Job → what is smaller in it."""


class Quickstart:
    """A repository with what the script needs, and an environment that it takes for one that it made before.

    Args:
        root: becomes the repository.

    Attributes:
        said: what the last run printed.
        seconds: title of a stage → how long it took in the last run that was not killed.
    """

    def __init__(self, root: Path):
        self.root, self.said, self.seconds = root, "", {}
        shutil.copytree(REPOSITORY / "launch", root / "launch")
        for name in ("setup.py", "pyproject.toml"):
            shutil.copy(REPOSITORY / name, root)
        for name in ("bagpiper_jax", "gin", "tasks"):
            (root / name).symlink_to(REPOSITORY / name)
        programs = root / ".venv-quickstart/bin"
        programs.mkdir(parents=True)
        sizes = "".join(f'{job}) set -- "$@" {" ".join(_flags(job))} ;;\n' for job in SIZES)
        _write(programs / "python", f'case "${{3:-}}" in\n{sizes}esac\nexec {sys.executable} "$@"')
        _write(programs / "bagpiper", f'exec {sys.executable} -m bagpiper_jax "$@"')
        stamp = 'echo "quickstart $("$0" --version) $(cat setup.py pyproject.toml | cksum)"'
        made = subprocess.run(
            ["bash", "-c", stamp, sys.executable], cwd=root, capture_output=True, check=True
        )
        (root / ".venv-quickstart/.installed-from").write_bytes(made.stdout)

    def run(self, kill_in: str = "", after: float = 0.0) -> bool:
        """Runs the script from the folder above, or kills all of it so many seconds into a stage.

        Returns:
            whether it ended well.
        """
        process = subprocess.Popen(
            ["bash", f"{self.root.name}/launch/quickstart.sh"], cwd=self.root.parent, text=True,
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        killing = threading.Timer(after, os.killpg, (process.pid, signal.SIGKILL))
        lines, begun, stage = [], time.monotonic(), ""
        for line in process.stdout:
            lines.append(line)
            if line.startswith(("== ", "Done in")):
                now = time.monotonic()
                self.seconds |= {stage: now - begun} if stage and not kill_in else {}
                begun, stage = now, line.removeprefix("== ").rpartition(" (")[0]
                if kill_in and stage == kill_in:
                    killing.start()
        process.wait()
        killing.cancel()
        self.said = "".join(lines)
        return process.returncode == 0

    def job(self, *command: str) -> str:
        """What a job prints, with the sizes of the script's."""
        result = subprocess.run(
            [self.root / ".venv-quickstart/bin/python", "-m", "bagpiper_jax", *command],
            cwd=self.root, env=self.environment, capture_output=True, text=True,
        )  # fmt: skip
        assert result.returncode == 0, f"{command}: {result.stdout[-2000:]}{result.stderr[-4000:]}"
        return result.stdout

    @property
    def environment(self) -> dict[str, str]:
        # Whoever runs the tests may have named their environment: the script would clear that, and make its own there.
        inherited = {name: value for name, value in os.environ.items() if name != "VENV"}
        as_users = {"XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
        return inherited | as_users | {"PYTHON": sys.executable, "PYTHONPATH": str(REPOSITORY)}

    def numbers(self) -> dict[str, float]:
        """What must not drift, by name: losses of both runs step by step, baselines and counts of the evaluation."""
        found = {}
        for run in ("nano_pretrain", "nano_sft"):
            for line in (self.root / f"runs/{run}/metrics.jsonl").read_text().splitlines():
                values = json.loads(line)
                named = f"{run}, step {values['step']}, {values.get('kind', 'train')}"
                found |= {f"{named}, {name}": x for name, x in values.items() if name.startswith("loss")}
        for section, scores in self.results()["scores"].items():
            for name, score in scores.items():
                found[f"{section}, {name}, n"] = score["expected"]
                if score["unit"] == "%" and score["baseline"] is not None:
                    found[f"{section}, {name}, baseline"] = score["baseline"]
        return found

    def results(self) -> dict:
        """What the evaluation wrote."""
        return json.loads((self.root / "runs/evaluation/results.json").read_text())


def _flags(job: str) -> list[str]:
    return [
        f"--gin.{config}.{n}={value}" for config, sizes in SIZES[job].items() for n, value in sizes.items()
    ]


def _write(program: Path, body: str) -> None:
    program.write_text(f"#!/usr/bin/env bash\n{body}\n")
    program.chmod(0o755)
