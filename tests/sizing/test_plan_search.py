"""The search of a plan: which candidates there are, in which order, and where it ends. Nothing is compiled here."""

import dataclasses

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


class Planner:
    """Stands for the compiler: which candidates fit, how fast each is, and what it was asked."""

    def __init__(self, fits, seconds=lambda made: float(made), refused=0):
        self.fits, self.seconds, self.refused = fits, seconds, refused
        self.looked_at, self.compiled = [], []

    def __call__(self, candidate, target, to_hlo=False):
        if to_hlo:
            self.looked_at.append(candidate)
            made, fits = len(self.looked_at), self.fits(len(self.looked_at))
        else:
            self.compiled.append(candidate)
            made, fits = self.looked_at.index(candidate) + 1, len(self.compiled) > self.refused
        return {
            "fits": fits,
            "hbm_gib_per_chip": {"total": 1.0},
            "roofline_seconds": {"step": self.seconds(made)},
        }


def test_of_the_candidates_looked_at_only_the_fastest_by_its_hlo_is_compiled(monkeypatch):
    planner = Planner(fits=lambda made: True, seconds=lambda made: abs(made - 3) + 1.0)
    monkeypatch.setattr(room, "plan", planner)
    tried = search(TRAIN, V5P, 5)
    assert planner.looked_at == [candidate for candidate, _ in ranked(TRAIN, V5P)][:5]
    assert planner.compiled == [planner.looked_at[2]]
    assert len(tried) == 5 and tried[-1]["candidate"] == describe(planner.looked_at[2])


def test_where_the_fastest_is_refused_the_next_is_compiled(monkeypatch):
    planner = Planner(fits=lambda made: True, refused=2)
    monkeypatch.setattr(room, "plan", planner)
    tried = search(TRAIN, V5P, 4)
    assert planner.compiled == planner.looked_at[:3] and tried[-1]["fits"] is True


def test_what_does_not_fit_rules_out_all_that_are_estimated_to_take_as_much(monkeypatch):
    planner = Planner(fits=lambda made: False)
    monkeypatch.setattr(room, "plan", planner)
    assert search(TRAIN, V5P, 99)[-1]["fits"] is False and not planner.compiled
    estimates = [used for candidate, used in ranked(TRAIN, V5P) if candidate in planner.looked_at]
    assert len(estimates) > 1 and estimates == sorted(set(estimates), reverse=True)


def test_where_there_is_no_compiler_the_first_that_may_fit_is_the_best(monkeypatch):
    planner = Planner(fits=lambda made: None if made == 2 else False)
    monkeypatch.setattr(room, "plan", planner)
    gpus = Target(cpu_devices(8), find_slice("8xh100"))
    assert len(search(TRAIN, gpus, 9)) == len(planner.looked_at) == 2 and not planner.compiled


def test_the_table_says_what_each_candidate_binds():
    first = next(iter(candidates(dataclasses.replace(TRAIN, seed=1), V5P)))
    plan = {"candidate": describe(first), "fits": False, "hbm_gib_per_chip": {"total": 17.25}}
    text = search_table([plan])
    assert f"remat {first.model.decoder.remat}" in text and "17.25" in text and "does not fit" in text
