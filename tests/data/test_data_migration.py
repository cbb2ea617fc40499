"""A run changes its mixture: the window it stands in is finished, and no task loses or repeats an example."""

import collections
import json

import numpy as np
import pytest
from data_job import checksums
from synthetic_cache import VOCABULARY, write_mixture

from bagpiper_jax.batch import BatchShape
from bagpiper_jax.data.loader import Loader, LoaderConfig, ResumeError
from bagpiper_jax.data.mixture import Mixture

SHAPE = BatchShape(rows=2, slots=256, chunks=8)
BEFORE = {"caption_to_audio": (30, 1.0), "audio_to_caption": (40, 2.0)}
AFTER = {"caption_to_audio": (30, 3.0), "audio_to_caption": (40, 1.0), "text_only": (50, 1.0)}


@pytest.fixture(scope="module")
def locks(tmp_path_factory):
    """Mixtures before and after, of equal caches where they share a task, and one after that."""
    root = tmp_path_factory.mktemp("mixtures")
    third = {"caption_to_audio": (30, 1.0), "text_only": (50, 2.0)}
    return [write_mixture(root / name, tasks) for name, tasks in (("a", BEFORE), ("b", AFTER), ("c", third))]


def make(lock, process_index: int = 0, process_count: int = 1, **settings) -> Loader:
    config = LoaderConfig(**{"seed": 3, "window": 64, **settings})
    return Loader(lock, SHAPE, VOCABULARY, config, process_index, process_count)


def stored(state: dict) -> dict:
    text = json.dumps(state)
    assert len(text) < 1000
    return json.loads(text)


def counts(loader: Loader, rows: range) -> dict[str, collections.Counter]:
    found = collections.defaultdict(collections.Counter)
    for row in rows:
        planned = loader.plan.row(row)
        for task, index in zip(planned.task.tolist(), planned.index.tolist(), strict=True):
            found[loader.task_names[task]][index] += 1
    return found


def test_changes_are_refused_by_name_unless_asked_for(locks):
    before, after, _ = locks
    state = stored(make(before).state(3))
    with pytest.raises(ResumeError, match="data changed: caches, rates.*TrainConfig.migrate_from"):
        make(after).check(state)
    with pytest.raises(
        ResumeError, match="data changed: caches, rates, seed.*Restore the old settings, or start"
    ):
        make(after, seed=4, migrate_from=[before]).check(state)
    with pytest.raises(ResumeError, match="other caches, rates than this run had; name the very locks"):
        make(after, migrate_from=[after]).check(state)


def test_the_window_is_finished_and_the_new_mixture_begins_behind_it(locks):
    before, after, _ = locks
    old, new = make(before), make(after, migrate_from=[before])
    state = stored(old.state(3))
    assert new.check(state) == 3
    first, window = old.plan.locate(old.first_row(3))
    end = first + len(old.plan.window(window))
    for row in range(old.first_row(3), end):
        np.testing.assert_array_equal(new.plan.row(row).index, old.plan.row(row).index)
    step = end // SHAPE.rows - 1
    assert checksums(new.batch(step)) == checksums(old.batch(step))
    later = counts(new, range(end, end + 60))
    assert set(later) == set(AFTER)


def test_no_example_is_lost_or_repeated_across_a_change(locks):
    """Rows of the old plan up to the end of its window, then the new ones: each example floor or ceil times."""
    before, after, _ = locks
    old, new = make(before), make(after, migrate_from=[before])
    new.check(stored(old.state(3)))
    ((end, _),) = [(era["row"], era["window"]) for era in new.state(3)["eras"]]
    last, _ = new.plan.locate(end + 200)  # a window's first row: streams are whole there
    seen = counts(old, range(end))
    for name, found in counts(new, range(end, last)).items():
        seen[name].update(found)
    for name, (records, _) in AFTER.items():
        times = [seen[name][index] for index in range(records)]
        assert max(times) - min(times) <= 1, (name, times)


def test_a_migrated_run_resumes_and_may_change_again(locks):
    before, after, third = locks
    old, new = make(before), make(after, migrate_from=[before])
    new.check(stored(old.state(3)))
    again = make(after, migrate_from=[before], process_index=1, process_count=2)
    for step in (4, 40):
        assert again.check(stored(new.state(step))) == step
        assert checksums(again.batch(step)) == checksums(new.batch(step))[1:]
    with pytest.raises(ResumeError, match="changed its data 1 times; migrate_from must name the 1 locks"):
        make(after).check(stored(new.state(40)))
    twice = make(third, migrate_from=[before, after])
    twice.check(stored(new.state(40)))
    assert checksums(twice.batch(40)) == checksums(new.batch(40))
    eras = twice.state(60)["eras"]
    last, _ = twice.plan.locate(eras[1]["row"] + 200)
    seen = counts(twice, range(last))
    times = [seen["caption_to_audio"][index] for index in range(30)]
    assert max(times) - min(times) <= 1
    assert twice.state(60)["identity"]["caches"] == Mixture.open(third, "train").identity()["caches"]


def test_other_data_under_a_task_s_name_begin_with_their_next_epoch(tmp_path, locks):
    before = locks[0]
    grown = write_mixture(tmp_path, {"caption_to_audio": (45, 1.0), "audio_to_caption": (40, 2.0)})
    old, new = make(before), make(grown, migrate_from=[before])
    new.check(stored(old.state(3)))
    end = new.state(3)["eras"][0]["row"]
    epochs = [
        epoch
        for row in range(end, end + 60)
        for task, epoch in zip(new.plan.row(row).task, new.plan.row(row).epoch, strict=True)
        if task >= len(BEFORE) and new.task_names[task] == "caption_to_audio"
    ]
    taken = max(e for r in range(end) for t, e in zip(old.plan.row(r).task, old.plan.row(r).epoch, strict=True)
                if old.task_names[t] == "caption_to_audio")  # fmt: skip
    assert min(epochs) == taken + 1
