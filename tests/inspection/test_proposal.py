"""The batch that `--propose` writes holds every example and can be given to a run."""

import numpy as np
import pytest
from synthetic_cache import dialogue_of, example, write_mixture_of

from bagpiper_jax import configuration
from bagpiper_jax.batch import BatchShape
from bagpiper_jax.data.lengths import TaskLengths
from bagpiper_jax.data.limits import MixtureLimits
from bagpiper_jax.data.planner import Plan
from bagpiper_jax.inspection.proposal import propose
from bagpiper_jax.jobs import inspect_data
from bagpiper_jax.training.config import TrainConfig


def tasks(seed: int, most: int = 900, count: int = 400) -> list[TaskLengths]:
    rng = np.random.default_rng(seed)
    return [
        TaskLengths(
            name, rate, rng.integers(20, high, count), rng.integers(0, 31, count), np.zeros(count, int)
        )
        for name, rate, high in (("heard", 2.0, most), ("made", 1.0, most // 3))
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("unit", ["examples", "tokens"])
def test_every_example_fits_and_rows_are_as_full_as_is_said(seed, unit):
    mixture = tasks(seed)
    found = propose("m", mixture, unit, BatchShape(16, 512, 8), rows_unit=2)
    shape = found.shape
    plan = Plan(mixture, shape.slots, shape.chunks, 0, unit)
    assert not plan.excluded and shape.slots % 128 == 0 and shape.rows % 2 == 0
    assert found.longest == (max(t.length.max() for t in mixture), max(t.chunks.max() for t in mixture))
    assert Plan(mixture, found.longest[0] - 1, shape.chunks, 0, unit).excluded
    rows = plan.window(0)
    assert found.packing == pytest.approx(np.mean([row.length.sum() for row in rows]) / shape.slots)
    assert 0.5 < shape.rows * shape.slots / (16 * 512) < 2 or shape.rows == 2


def test_chunks_do_not_run_out_before_slots():
    found = propose("m", tasks(0), "examples", BatchShape(16, 512, 1))
    starved = Plan(tasks(0), found.shape.slots, found.longest[1], 0, "examples").window(0)
    assert found.packing > np.mean([row.length.sum() for row in starved]) / found.shape.slots


def test_the_lines_are_gin_that_a_run_takes(tmp_path):
    found = propose("m", tasks(1), "examples", BatchShape(4, 512, 8), limits=MixtureLimits(min_packing=1.0))
    (tmp_path / "batch.gin").write_text(str(found))
    config = configuration.build(TrainConfig, ["gin/runs/user_sft.gin", str(tmp_path / "batch.gin")])
    assert config.batch == found.shape and 0 < found.packing - config.limits.min_packing <= 0.02


def test_the_job_proposes_for_a_cached_mixture(tmp_path, capsys):
    rng = np.random.default_rng(0)
    examples = [example(dialogue_of("audio_to_caption", rng), f"clip-{n}") for n in range(8)]
    lock = write_mixture_of(tmp_path, examples)
    assert inspect_data.main([f"--lock={lock}", "--propose", f"--html={tmp_path / 'a.html'}"]) == 0
    assert "\nBatchShape.slots = " in capsys.readouterr().out and (tmp_path / "a.html").exists()
