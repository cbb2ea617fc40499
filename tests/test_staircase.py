"""launch/quickstart.sh from its first job to its last words, on a corpus of a few dozen scenes."""

import json
import re
import subprocess

import golden_staircase
import numpy as np
import pytest
from places import GOLDEN
from quickstart import Quickstart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Quickstart:
    """One that ran from beginning to end."""
    quickstart = Quickstart(tmp_path_factory.mktemp("whole") / "repository")
    assert quickstart.run(), quickstart.said[-6000:]
    return quickstart


def test_results_stand_beside_their_baselines_on_one_page(finished):
    results = finished.results()["scores"]
    assert {"Audio → caption", "Caption → audio → caption", "Codec", "Validation loss"} <= set(results)
    losses = results["Validation loss"]
    assert all(score["baseline"] > 0 for score in losses.values()) and len(losses) == 2
    page = (finished.root / "runs/evaluation/report.html").read_text()
    assert page.count("<audio") >= 4 and "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page


def test_the_numbers_are_those_that_are_stored(finished):
    """Losses to half a percent: other processors add in another order, and encode a few frames otherwise."""
    stored, found = json.loads((GOLDEN / "staircase.json").read_text()), finished.numbers()
    assert found.keys() == stored.keys(), (
        f"if that is wanted: {golden_staircase.COMMAND}, and commit the diff"
    )
    assert {name: x for name, x in found.items() if "loss" not in name} == {
        name: x for name, x in stored.items() if "loss" not in name
    }
    for name in (name for name in stored if "loss" in name):
        assert found[name] == pytest.approx(stored[name], rel=5e-3), name


def test_the_commands_that_it_ends_with_work_as_they_are_printed(finished):
    """Pasted one after the other, by a user who is where the script was started and has activated nothing."""
    printed = re.findall(r"^  (\S.*)$", finished.said.partition("Done in")[2], re.M)
    assert len(printed) == 4 and printed[0] == f"cd {finished.root}"
    said = []
    for command in printed[1:]:
        pasted = subprocess.run(
            ["bash", "-c", f"{printed[0]}\n{command}"], cwd=finished.root.parent, env=finished.environment,
            capture_output=True, text=True,
        )  # fmt: skip
        assert pasted.returncode == 0, f"{command}: {pasted.stderr[-4000:]}"
        said.append(pasted.stdout)
    assert ["--audio" in command for command in printed[1:]] == [True, True, False]
    assert said[0] != said[1] and "runs/sound.wav: " in said[2]
    assert (finished.root / "runs/sound.wav").stat().st_size > 1000


def test_inspect_and_resume_of_a_finished_run(finished):
    metrics = finished.root / "runs/nano_pretrain/metrics.jsonl"
    before = metrics.read_bytes()
    finished.job("train", "--gin_file=gin/runs/nano_pretrain.gin")
    assert metrics.read_bytes() == before
    assert "audio_to_caption" in finished.job(
        "inspect_data",
        "--gin.InspectConfig.lock=cache/embedded_pretraining_with_reading.lock.json",
        "--gin.InspectConfig.tokenizer=corpora/embedded/tokenizer.json",
    )


def test_killed_in_every_stage_the_same_command_gives_the_same_table(finished, tmp_path):
    killed, rng = Quickstart(tmp_path / "repository"), np.random.default_rng(0)
    assert len(finished.seconds) == 8
    for number, (stage, seconds) in enumerate(finished.seconds.items()):
        # Early enough for a machine that has become twice as fast since the stage was measured.
        ended = killed.run(kill_in=stage, after=rng.uniform(0.1, 0.4) * seconds)
        assert f"== {stage} (" in killed.said, killed.said[-6000:]
        assert not ended or number == 7, "only the last stage may end before it is killed"
    assert killed.run(), killed.said[-6000:]
    ours, theirs = killed.results(), finished.results()
    assert ours["scores"] == theirs["scores"]
