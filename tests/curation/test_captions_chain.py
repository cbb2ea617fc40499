"""The commands of docs/captions.md, one after the other, with their gin files."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
import simulated_answers
from curation_helpers import corpus
from misbehaving_endpoint import endpoint
from places import REPOSITORY

from bagpiper_jax.jobs import caption_audio, score_captions, select_captions, simulate_dialogues, tag_captions
from bagpiper_jax.manifest import read_manifest

JOBS = {
    "caption_audio": caption_audio, "tag_captions": tag_captions, "score_captions": score_captions,
    "select_captions": select_captions, "simulate_dialogues": simulate_dialogues,
}  # fmt: skip


def clap_and_mos(waveforms, captions, sample_rate):
    return {
        "clap_similarity": [float(np.abs(w).mean()) for w in waveforms],
        "aesthetics_mean": [5.0] * len(captions),
    }


def answer(messages: list) -> str:
    """Captions as long as the published filters want them, unlike each other."""
    if simulated_answers.stage_of(messages) != "caption":
        return simulated_answers.answer(messages)
    wav = base64.b64decode(messages[0]["content"][0]["input_audio"]["data"])
    rng = np.random.default_rng(list(wav[100:108]))
    return 'A calm woman says "good morning". ' + " ".join(f"sound{n}" for n in rng.integers(1000, size=250))


def commands() -> list[tuple[str, list[str]]]:
    """(job, flags) of the documented commands."""
    text = (REPOSITORY / "docs/captions.md").read_text().replace("\\\n", " ")
    found = re.findall(r"^    bagpiper (\w+) (.*)$", text, re.M)
    return [(job, [flag.replace('"', "") for flag in flags.split()]) for job, flags in found]


def test_the_documented_commands_make_dialogues_of_audio(tmp_path, monkeypatch):
    corpus(tmp_path, 10)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpora").mkdir()
    (tmp_path / "in").rename(tmp_path / "corpora/raw")
    with endpoint(answer) as server:
        for job, flags in commands():
            flags = [f.replace("http://HOST:8000/v1", server.url).replace("NAME", "m") for f in flags]
            JOBS[job].main([flag.replace("my_scores", __name__) for flag in flags])
    records = {}
    for name in ("captioned", "tagged", "scored", "selected", "simulated"):
        summary = json.loads((tmp_path / "corpora" / name / "corpus.json").read_text())
        records[name] = summary["clips"], summary["rejects"]
    assert records["captioned"] == records["tagged"] == records["scored"] == (11, {})
    assert records["selected"] == (9, {"not_selected": 2}), "the document passes, a fifth of ten is discarded"
    assert records["simulated"] == (24, {"no_caption": 3})
    for clip in read_manifest("corpora/simulated"):
        assert clip.audio.startswith("../raw/audio/") and (Path("corpora/simulated") / clip.audio).is_file()
        assert clip.domain == "sound" and clip.metrics["clap_similarity"] > 0


def test_every_job_is_documented():
    assert [job for job, _ in commands()] == list(JOBS)


@pytest.mark.parametrize("job", JOBS)
def test_a_job_without_its_settings_says_so(job):
    from bagpiper_jax.configuration import ConfigurationError

    with pytest.raises(ConfigurationError, match="corpora"):
        JOBS[job].main([])
