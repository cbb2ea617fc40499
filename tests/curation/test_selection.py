"""Selection of captions: published thresholds, every drop counted, the same result whatever the order of work."""

import collections
import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from places import REPOSITORY

from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.curation.selection import measuring
from bagpiper_jax.curation.selection.near_duplicates import NearDuplicates, Stacked, find_twins
from bagpiper_jax.curation.selection.quality import PUBLISHED_WEIGHTS, CaptionScore
from bagpiper_jax.curation.selection.selecting import SelectConfig, select
from bagpiper_jax.errors import Explained
from bagpiper_jax.jobs import select_captions
from bagpiper_jax.manifest import Clip, ManifestError, read_manifest, write_manifest
from bagpiper_jax.pipelines.each import IN_PROCESS

WORDS = [
    a + b
    for a in ("ba", "ke", "li", "mo", "nu", "sa", "ti")
    for b in ("dor", "fen", "gal", "hin", "jum", "ras")
]
GOOD = {
    "audio_type": "speech", "is_pure_english": True, "is_audio_focused": True, "intelligibility": 4, "complexity": 3,
    "diversity": 3, "mos_mean": 3.5, "clap_similarity": 0.4, "aesthetics_mean": 5.0,
}  # fmt: skip


def caption(seed: int, words: int = 220) -> str:
    rng = np.random.default_rng(seed)
    return " ".join(WORDS[i] + str(rng.integers(9)) for i in rng.integers(len(WORDS), size=words))


def clip(number: int, **fields) -> Clip:
    base = {"split": "train", "domain": "speech", "audio": f"audio/{number}.flac", "duration": 5.0}
    return Clip(**{"id": f"c{number}", **base, "caption": caption(number), "metrics": dict(GOOD), **fields})


def run(folder: Path, *corpora: list[Clip], **settings) -> tuple[dict[str, Clip], dict[str, str], dict]:
    """Selected clips by id, reasons by id, and corpus.json."""
    names = [str(folder / f"in{index}") for index in range(len(corpora))]
    for name, clips in zip(names, corpora, strict=True):
        write_manifest(name, clips)
    config = SelectConfig(
        tuple(names), str(folder / "out"), **{"workers": 1, "discard_frac": 0.0, **settings}
    )
    directory = select(config)
    rejects = [json.loads(line) for line in (directory / "rejects.jsonl").read_text().splitlines()]
    assert all(Path(r["file"]).exists() and r["line"] and r["detail"] and r["remedy"] for r in rejects)
    summary = json.loads((directory / "corpus.json").read_text())
    assert sum(summary["outcomes"].values()) == summary["records"] == sum(map(len, corpora))
    assert not (directory / "work").exists()
    return {c.id: c for c in read_manifest(directory)}, {r["id"]: r["reason"] for r in rejects}, summary


def test_defaults_are_the_references():
    config = SelectConfig(("a",), "b")  # docs/reference.md, Caption selection
    assert (config.noise, config.discard_frac, config.seed) == (0.1, 0.2, 42)
    third = 0.0667
    assert config.score.weights == PUBLISHED_WEIGHTS == {
        "intelligibility": third, "complexity": third, "diversity": third, "mos_mean": 0.2, "clap_similarity": 1.0,
        "aesthetics_mean": 0.1,
    }  # fmt: skip
    assert dataclasses.astuple(config.caption_filter) == (200, 800, 30.0, 5, 3, 0.1, 0.3, 2.0, 15.0, 0.5)


def test_the_score_is_the_published_sum():
    score, judged = CaptionScore(), 0.0667 * (4 + 3 + 3) + 1.0 * 0.4
    assert score.score(GOOD, "speech") == pytest.approx(judged + 0.2 * 3.5)
    assert score.score(GOOD, "music") == score.score(GOOD, "sound") == pytest.approx(judged + 0.1 * 5.0)
    hard = CaptionScore(minimums={"clap_similarity": 0.3})
    assert hard.score(GOOD, "speech") == pytest.approx(judged - 0.4 + 0.2 * 3.5)


@pytest.mark.parametrize(
    "fields, reason",
    [
        ({"caption": "Too short."}, "caption_too_few_tokens"),
        ({"duration": 31.0}, "caption_duration"),
        ({"metrics": None}, "no_is_pure_english"),
        ({"metrics": {**GOOD, "is_audio_focused": False}}, "not_is_audio_focused"),
        ({"metrics": {**GOOD, "audio_type": "noise"}}, "bad_audio_type"),
        ({"metrics": {**GOOD, "clap_similarity": [0.4]}}, "bad_clap_similarity"),
        ({"metrics": {**GOOD, "clap_similarity": True}}, "bad_clap_similarity"),
        ({"caption": None, "dialogue": [["user", "audio"], 5, ["user", "audio", None]]}, None),
        ({"metrics": {**GOOD, "mos_mean": "3"}}, "bad_mos_mean"),
        ({"metrics": {**GOOD, "mos_mean": None}}, "no_mos_mean"),
        ({"metrics": {**GOOD, "mos_mean": None, "audio_type": "music"}}, None),
        ({"metrics": {**GOOD, "clap_similarity": 0.1}}, "low_clap_similarity"),
        ({"caption": None, "text": "A document."}, None),
        ({"split": "test", "caption": "Held out."}, None),
    ],
)
def test_a_clip_is_judged(tmp_path, fields, reason):
    score = CaptionScore(minimums={"clap_similarity": 0.2})
    kept, dropped, summary = run(tmp_path, [clip(0, **fields), clip(1)], score=score)
    assert dropped == ({"c0": reason} if reason else {}) and "c1" in kept
    assert summary["rejects"] == collections.Counter(dropped.values())


def test_tags_decide_the_domain_and_audio_stays_where_it_is(tmp_path):
    effects = {**GOOD, "audio_type": "sound_effects"}
    dialogue = [["user", "audio", "c0"], ["user", "audio", "audio/q.flac"], ["assistant", "text", "Yes."]]
    kept, _, _ = run(tmp_path, [clip(0, metrics=effects, dialogue=dialogue)])
    assert kept["c0"].domain == "sound" and kept["c0"].audio == "../in0/audio/0.flac"
    assert [m[2] for m in kept["c0"].dialogue] == ["c0", "../in0/audio/q.flac", "Yes."]


def test_near_duplicates_leave_the_best_and_never_the_held_out(tmp_path):
    better = {**GOOD, "clap_similarity": 0.9}
    clips = [
        clip(0), clip(1, caption=caption(0) + " more"), clip(2, caption=caption(0), metrics=better),
        clip(3), clip(4, caption=caption(3), split="validation"), clip(5, caption=caption(3), split="test"), clip(6),
    ]  # fmt: skip
    kept, dropped, _ = run(tmp_path, clips[:3], clips[3:])
    assert sorted(kept) == ["c2", "c4", "c5", "c6"]
    assert dropped == {"c0": "near_duplicate", "c1": "near_duplicate", "c3": "near_duplicate_of_held_out"}
    rejects = [json.loads(line) for line in (tmp_path / "out/rejects.jsonl").read_text().splitlines()]
    assert "in0/manifest.jsonl:3" in rejects[0]["detail"] and "in1/manifest.jsonl:2" in rejects[2]["detail"]


def test_twins_are_those_that_datasketch_finds():
    from datasketch import MinHash, MinHashLSH

    rng, near = np.random.default_rng(0), NearDuplicates(threshold=0.7)
    texts = [caption(i, 120) for i in range(60)]
    for i in range(60):  # up to 12 % of the words replaced
        words = texts[i].split()
        for place in rng.choice(len(words), int(len(words) * rng.uniform(0, 0.12)), replace=False):
            words[place] = "other"
        texts.append(" ".join(words))
    signatures = near.signatures(texts)
    oracle = MinHashLSH(num_perm=near.permutations, params=near.bands)
    sketches = [
        MinHash(near.permutations, near.seed, hashvalues=row, scheme="affine32") for row in signatures
    ]
    for row, sketch in enumerate(sketches):
        oracle.insert(row, sketch)
    expected = {
        (row, other) for row, sketch in enumerate(sketches) for other in oracle.query(sketch)
        if other < row and sketch.jaccard(sketches[other]) >= near.threshold
    }  # fmt: skip
    everyone = np.ones(len(texts), bool)
    twins = find_twins(
        iter(near.keys(signatures)), Stacked([signatures[:50], signatures[50:]]),
        np.zeros(len(texts), np.float32), ~everyone, everyone, near.threshold,
    )  # fmt: skip
    found = {(row, int(twin)) for row, twin in enumerate(twins) if twin >= 0}
    assert found == expected and 10 < len(found) < 50
    assert near.bands == (14, 9), "datasketch's own choice for 0.7 and 128"


def test_gumbel_top_k_keeps_the_share_in_each_domain_and_prefers_the_score(tmp_path):
    def of(number):
        metrics = {
            **GOOD,
            "audio_type": ("speech", "music")[number % 2],
            "clap_similarity": number % 100 / 100,
        }
        return clip(number, metrics=metrics)

    kept, dropped, summary = run(
        tmp_path, [of(i) for i in range(400)], discard_frac=0.2, near_duplicates=None
    )
    assert summary["clips_by_domain"] == {"music": 160, "speech": 160}
    assert summary["rejects"] == {"not_selected": 80}
    score = {i: of(i).metrics["clap_similarity"] for i in range(400)}
    good, bad = (np.mean([score[int(name[1:])] for name in names]) for names in (kept, dropped))
    assert good > bad + 0.3
    assert (
        max(score[int(name[1:])] for name in dropped)
        > 0.2
        > 0.1
        > min(score[int(n[1:])] for n in kept) + 0.05
    )


def test_the_noise_is_gumbels():
    u = measuring.uniforms(np.arange(100_000, dtype=np.uint64), 42, "gumbel")
    assert 0 < u.min() and u.max() < 1 and abs(u.mean() - 0.5) < 0.005
    gumbel = -np.log(-np.log(u))
    assert abs(gumbel.mean() - 0.5772) < 0.02 and abs(gumbel.std() - np.pi / 6**0.5) < 0.02
    other = measuring.uniforms(np.arange(100_000, dtype=np.uint64), 43, "gumbel")
    assert abs(np.corrcoef(u, other)[0, 1]) < 0.02


def test_resampling_by_source_and_domain(tmp_path):
    clips = [
        clip(i, source="a" if i < 200 else "b", domain="music" if i % 2 else "speech") for i in range(400)
    ]
    settings = dict(
        score=None, near_duplicates=None, source_factors={"a": 2.5, "b": 0.5}, domain_factors={"music": 2.0}
    )
    kept, dropped, summary = run(tmp_path, clips, **settings)
    counts = collections.Counter((c.source, c.domain) for c in kept.values())
    assert counts[("a", "music")] == 500 and abs(counts[("a", "speech")] - 250) < 20
    assert counts[("b", "music")] == 100 and abs(counts[("b", "speech")] - 50) < 20
    assert set(dropped.values()) == {"resampled_out"} and summary["copies"] == len(kept) + len(dropped) - 400
    assert {"c1", "c1.2", "c1.3", "c1.4", "c1.5"} <= set(kept) and kept["c1.5"].audio == kept["c1"].audio
    with pytest.raises(CorpusError, match="did you mean 'a'|known: a, b"):
        run(tmp_path, clips, **{**settings, "source_factors": {"aa": 1.0}})


def test_dialogues_that_play_dropped_clips_go_too(tmp_path):
    talk = [["user", "audio", "c0"], ["assistant", "text", "Noise."]]
    of_talk = [["user", "audio", "c1"], ["assistant", "text", "A talk."]]
    clips = [
        clip(0, caption="bad"), clip(1, caption=None, dialogue=talk), clip(2, caption=None, dialogue=of_talk),
        clip(3, caption=None, dialogue=[["user", "audio", "c4"], ["assistant", "text", "Fine."]]), clip(4),
    ]  # fmt: skip
    kept, dropped, _ = run(tmp_path, clips)
    assert sorted(kept) == ["c3", "c4"] and dropped["c1"] == dropped["c2"] == "quotes_a_dropped_clip"


def test_repeated_ids_are_rejected_across_corpora(tmp_path):
    _, dropped, summary = run(tmp_path, [clip(0), clip(1)], [clip(1, caption=caption(77))])
    assert dropped == {"c1": "repeated_id"} and summary["clips"] == 2


@pytest.mark.parametrize("change", ["piece_size", "workers", "beam", "order"])
def test_neither_pieces_nor_workers_nor_order_change_the_choice(tmp_path, monkeypatch, change):
    clips = [clip(i, caption=caption(i % 50), source="s") for i in range(60)]
    settings = dict(discard_frac=0.3, source_factors={"s": 1.5})
    first, _, _ = run(tmp_path / "a", clips, **settings)
    if change == "piece_size":
        monkeypatch.setattr(measuring, "PIECE_BYTES", 700)
        monkeypatch.setattr(measuring.pieces_of, "__defaults__", (700,))
    if change == "workers":
        settings["workers"] = 2
    if change == "beam":
        settings["beam"] = IN_PROCESS
        monkeypatch.setattr(measuring.pieces_of, "__defaults__", (700,))
    if change == "order":  # among equals the earlier stays: move whole clusters, not their members
        clips = clips[::-1]
        for i, c in enumerate(clips):
            clips[i] = dataclasses.replace(c, metrics={**GOOD, "clap_similarity": int(c.id[1:]) / 1000})
        first, _, _ = run(tmp_path / "c", clips[::-1], **settings)
    second, _, _ = run(tmp_path / "b", clips, **settings)
    if change in ("workers", "beam"):
        assert _files(tmp_path / "a/out") == _files(tmp_path / "b/out")
    assert first.keys() == second.keys() and 40 < len(first) < 75


def _files(directory: Path) -> list[bytes]:
    texts = [(directory / name).read_text() for name in ("manifest.jsonl", "rejects.jsonl", "corpus.json")]
    return [text.replace(str(directory.parent), "").encode() for text in texts]


def test_bytes_are_the_same_when_run_again(tmp_path):
    clips = [clip(i) for i in range(30)]
    texts = []
    for _ in range(2):
        run(tmp_path, clips, discard_frac=0.3)
        texts.append(
            [(tmp_path / "out" / n).read_bytes() for n in ("manifest.jsonl", "rejects.jsonl", "corpus.json")]
        )
    assert texts[0] == texts[1]


KILLED_AT_THE_FOURTH = """
import os, signal, sys
from bagpiper_jax.curation.selection import measuring
from bagpiper_jax.curation.selection import selecting as selection
measure, begun = measuring.measure, []
def killed(piece, measures):
    begun.append(piece)
    if len(begun) == 4:
        open(piece.stem + ".npz.tmp", "w").write("torn")
        os.kill(os.getpid(), signal.SIGKILL)
    measure(piece, measures)
measuring.measure = killed
measuring.pieces_of.__defaults__ = (20_000,)
selection.select(selection.SelectConfig((sys.argv[1],), sys.argv[2], workers=1))
"""


def test_a_killed_job_measures_the_rest_only(tmp_path, monkeypatch):
    write_manifest(tmp_path / "in", [clip(i) for i in range(100)])
    config = SelectConfig((str(tmp_path / "in"),), str(tmp_path / "out"), workers=1)
    command = [sys.executable, "-c", KILLED_AT_THE_FOURTH, config.corpora[0], config.output]
    repository = REPOSITORY
    assert subprocess.run(command, cwd=repository).returncode == -signal.SIGKILL
    assert not (tmp_path / "out/manifest.jsonl").exists()
    done = {path.stem for path in (tmp_path / "out/work").rglob("*.npz")}
    again, measure = [], measuring.measure

    def counted(piece, measures):
        again.append(Path(piece.stem).name)
        measure(piece, measures)

    monkeypatch.setattr(measuring, "measure", counted)
    monkeypatch.setattr(measuring.pieces_of, "__defaults__", (20_000,))
    select(config)
    assert done == {"000000", "000001", "000002"} and not done & set(again) and len(again) > 3
    resumed = (tmp_path / "out/manifest.jsonl").read_bytes()
    select(dataclasses.replace(config, output=str(tmp_path / "fresh")))
    assert resumed == (tmp_path / "fresh/manifest.jsonl").read_bytes()


def test_refusals(tmp_path):
    write_manifest(tmp_path / "in", [clip(0)])
    source = str(tmp_path / "in")
    with pytest.raises(CorpusError, match="also an input"):
        select(SelectConfig((source,), source))
    write_manifest(tmp_path / "other", [clip(0)])
    with pytest.raises(CorpusError, match="another corpus"):
        select(SelectConfig((source,), str(tmp_path / "other")))
    with open(tmp_path / "in/manifest.jsonl", "a") as file:
        file.write('{"id": "broken\n')
    with pytest.raises(ManifestError, match="begins at byte"):
        select(SelectConfig((source,), str(tmp_path / "out"), workers=1))
    with pytest.raises(Explained, match=".*does not exist"):
        select_captions.main(
            ["--gin.SelectConfig.corpora=('nowhere',)", f"--gin.SelectConfig.output={tmp_path}/x"]
        )
