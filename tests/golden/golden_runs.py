"""Writes the operative configuration of every training run to tests/golden/: `golden_runs.py`.

What a gin file means depends on its includes and on every default; here a change of any of them shows in a diff.
"""

from pathlib import Path

from places import GOLDEN, REPOSITORY

from bagpiper_jax import configuration
from bagpiper_jax.training.config import TrainConfig

COMMAND = "PYTHONPATH=tests/helpers python tests/golden/golden_runs.py"


def training_runs() -> list[str]:
    """Names of the gin files in gin/runs/ that settle a training run, themselves or by an include."""
    return sorted(p.stem for p in (REPOSITORY / "gin/runs").glob("*.gin") if _settles_training(p))


def _settles_training(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    return "TrainConfig.output" in text


def operative(run: str) -> str:
    """The operative configuration of a run as gin text."""
    configuration.build(TrainConfig, [f"gin/runs/{run}.gin"])
    return configuration.operative_config()


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for stale in GOLDEN.glob("*.gin"):
        stale.unlink()
    for run in training_runs():
        (GOLDEN / f"{run}.gin").write_text(operative(run), encoding="utf-8")


if __name__ == "__main__":
    main()
