"""A user's scorer over a corpus: columns become metrics, faults are counted, scores are kept."""

import numpy as np
import pytest
from curation_helpers import corpus, result

from bagpiper_jax.curation.scoring import ScoreConfig, score
from bagpiper_jax.errors import Explained
from bagpiper_jax.jobs import score_captions
from bagpiper_jax.manifest import Clip, read_manifest, write_manifest

calls = []


def scorer(waveforms, captions, sample_rate):
    """CLAP of a kind: the loudness; fails on captions that say so."""
    calls.append(captions)
    if any("poison" in caption for caption in captions):
        raise RuntimeError("poisoned")
    assert sample_rate == 16_000 and all(w.shape == (3200,) for w in waveforms)
    return {
        "clap_similarity": np.array([np.abs(w).mean() for w in waveforms]),
        "english": [True] * len(captions),
    }


def not_a_number(waveforms, captions, sample_rate):
    return {"clap_similarity": [float("nan")] * len(captions)}


def wrong_count(waveforms, captions, sample_rate):
    return {"clap_similarity": [0.0]}


def test_a_scorers_columns_become_metrics(tmp_path):
    corpus(tmp_path, 7, metrics={"mos_mean": 3.0})
    clips = list(read_manifest(tmp_path / "in"))
    clips[4] = Clip(**{**vars(clips[4]), "caption": "poison"})
    write_manifest(tmp_path / "in", clips)
    (tmp_path / "in/audio/5.flac").unlink()
    config = ScoreConfig(
        (str(tmp_path / "in"),),
        str(tmp_path / "out"),
        f"{__name__}:scorer",
        batch_clips=3,
        max_reject_frac=0.5,
    )
    calls.clear()
    score(config)
    assert [len(batch) for batch in calls] == [3, 2, 1, 1, 1]
    found, dropped, _ = result(tmp_path)
    assert dropped == {"c4": "scorer_error", "c5": "audio_missing"}
    assert found["c0"].metrics == {
        "mos_mean": 3.0,
        "clap_similarity": pytest.approx(0.25, abs=0.02),
        "english": True,
    }
    assert found["t"].metrics is None
    before = (tmp_path / "out/manifest.jsonl").read_bytes()
    calls.clear()
    score(config)
    assert calls == [["poison"]] and before == (tmp_path / "out/manifest.jsonl").read_bytes()


@pytest.mark.parametrize("name", ["not_a_number", "wrong_count"])
def test_a_scorer_that_returns_nonsense_is_counted(tmp_path, name):
    corpus(tmp_path, 2)
    config = ScoreConfig(
        (str(tmp_path / "in"),), str(tmp_path / "out"), f"{__name__}:{name}", max_reject_frac=1.0
    )
    if name == "not_a_number":
        score(config)
        assert set(result(tmp_path)[1].values()) == {"scorer_error"}
    else:  # right for one clip, wrong for two: each is tried alone
        score(config)
        assert result(tmp_path)[1] == {}


def test_a_scorer_that_is_not_there_is_named(tmp_path):
    corpus(tmp_path, 1)
    flags = [f"--gin.ScoreConfig.corpora=('{tmp_path}/in',)", f"--gin.ScoreConfig.output={tmp_path}/out"]
    for name in ("nowhere:f", "json:nothing", "json", f"{__name__}:calls"):
        with pytest.raises(Explained, match="scorer"):
            score_captions.main([*flags, f"--gin.ScoreConfig.scorer={name}"])


def test_shards_score_every_clip_once(tmp_path):
    corpus(tmp_path, 5)
    found = []
    for shard in range(2):
        out = tmp_path / f"out{shard}"
        score(ScoreConfig((str(tmp_path / "in"),), str(out), f"{__name__}:scorer", shard=shard, num_shards=2))
        found += [clip.id for clip in read_manifest(out)]
    assert sorted(found) == ["c0", "c1", "c2", "c3", "c4", "t"]


def test_an_id_that_two_corpora_share_is_scored_once(tmp_path):
    corpus(tmp_path, 2)
    score(
        ScoreConfig(
            (str(tmp_path / "in"),) * 2, str(tmp_path / "out"), f"{__name__}:scorer", max_reject_frac=0.5
        )
    )
    assert result(tmp_path)[2]["rejects"] == {"repeated_id": 3}
