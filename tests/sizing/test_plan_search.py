"""The search of a plan: which candidates there are, in which order, and where it ends. Nothing is compiled here."""

import dataclasses

import pytest

from bagpiper_jax.batch import BatchShape
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.runs.chips import find_slice
from bagpiper_jax.sizing import search as room
from bagpiper_jax.sizing.devices import Target, cpu_devices
from bagpiper_jax.sizing.search import candidates, describe, ranked, search
from bagpiper_jax.sizing.table import search_table
from bagpiper_jax.training.config import TrainConfig

V5P = Target(cpu_devices(8), find_slice("v5p:2x2x2"))
V5E = Target(cpu_devices(8), find_slice("v5e:2x4"))
TRAIN = TrainConfig("out", "lock", model=BagpiperConfig(), batch=BatchShape(16, 8192, 64), mesh=MeshConfig())


def test_candidates_keep_the_batch_and_divide_it():
    found = list(candidates(TRAIN, V5P))
    assert len(found) == len(set(found)) > 10
    for candidate in found:
        mesh = candidate.mesh
        assert candidate.batch == TRAIN.batch and candidate.steps == TRAIN.steps
        shards = 8 // (mesh.tensor * mesh.sequence)
        assert TRAIN.batch.rows % (candidate.accumulation * shards) == 0
    assert {c.model.decoder.remat for c in found} >= {"none", "dots", "full"}


def test_less_recomputation_comes_first_and_the_hopeless_not_at_all():
    small = [candidate for candidate, _ in ranked(TRAIN, V5P)]
    assert small[0].model.decoder.remat != "full"
    # 8.3e9 parameters with AdamW are 92 GiB: eight chips of 95 hold them, eight of 16 hold nothing besides.
    assert not [c for c, _ in ranked(TRAIN, V5E) if c.model.decoder.remat == "none"]


@pytest.mark.parametrize("fitting, compiles, compiled", [(0, 9, 1), (2, 9, 3), (99, 2, 2)])
def test_the_search_ends_at_the_first_that_fits_or_when_its_compiles_are_spent(
    monkeypatch, fitting, compiles, compiled
):
    made = []

    def plan(candidate, target):
        made.append(candidate)
        return {"fits": len(made) > fitting, "hbm_gib_per_chip": {"total": 1.0}}

    monkeypatch.setattr(room, "plan", plan)
    tried = search(TRAIN, V5P, compiles)
    assert len(tried) == len(made) == compiled and tried[-1]["fits"] is (fitting < compiled)
    # What does not fit rules out all that are estimated to take as much.
    estimates = [used for candidate, used in ranked(TRAIN, V5P) if candidate in made]
    assert made[0] == ranked(TRAIN, V5P)[0][0] and estimates == sorted(set(estimates), reverse=True)


def test_the_table_says_what_each_candidate_binds():
    first = next(iter(candidates(dataclasses.replace(TRAIN, seed=1), V5P)))
    plan = {"candidate": describe(first), "fits": False, "hbm_gib_per_chip": {"total": 17.25}}
    text = search_table([plan])
    assert f"remat {first.model.decoder.remat}" in text and "17.25" in text and "does not fit" in text
