"""Captions to sound: scores of sets are the metrics', and whatever is missing says so."""

import numpy as np
import pytest
from known_evaluators import Known, Listener, installed, judged, write_sound
from official_scores import embeddings, logits

from bagpiper_jax.evaluation.benchmarks import registry
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.protocol import Reply
from bagpiper_jax.evaluation.evaluators.listening import Heard
from bagpiper_jax.evaluation.metrics import divergence, frechet, inception
from bagpiper_jax.outcomes import RecordError

OWN = "id,caption,seconds\n"
SETS = ("vggish", "panns", "passt", "openl3", "yamnet")


def _files(folder, text, references=(), **form):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "captions.csv").write_text(text, encoding="utf-8")
    for name in references:
        write_sound(folder / "audio" / f"{name}.wav", **form)
    return folder


def _open(folder, tools=None):
    return registry.open_benchmark("text_to_audio", folder, tools or Known())


def _replies(folder, ids, **form):
    return {id: Reply(audio=write_sound(folder / f"{id}.wav", **form)) for id in ids}


def _scores(benchmark, replies):
    return {score.name: score for score in benchmark.official(judged(benchmark, replies))}


def test_audiocaps_and_musiccaps_are_read_as_they_are_published(tmp_path):
    audiocaps = (
        "audiocap_id,youtube_id,start_time,caption\n1,abc,30,A dog barks\n2,abc,30,A dog\n3,def,0,Rain\n"
    )
    items = [*_open(_files(tmp_path / "a", audiocaps, ["abc_30"])).items()]
    assert [(item.id, item.cluster, item.asked.text) for item in items[1:]] == [
        ("2", "abc", "A dog"),
        ("3", "def", "Rain"),
    ]
    assert [bool(item.record["reference"]) for item in items] == [True, True, False]
    assert items[0].record["seconds"] == 10.0 and items[0].asked.wants == "audio"
    musiccaps = 'ytid,start_s,end_s,caption\n-x,10,20,"Slow, sad"\ny,1,5,Fast\n'
    items = [*_open(_files(tmp_path / "m", musiccaps, ["[-x]-[10-20]", "y"])).items()]
    assert [item.record["seconds"] for item in items] == [10.0, 4.0] and items[0].asked.text == "Slow, sad"
    assert all(item.record["reference"] for item in items)


@pytest.mark.parametrize(
    "text, said",
    [
        ("name,words\n", "has the columns name, words"),
        (OWN, "it has no captions"),
        (OWN + "a,,1\n", "a lacks an id or a caption"),
        (OWN + "a,x,1\na,y,1\n", "the id a is there twice"),
        (OWN + "a,x,long\n", "a: could not convert"),
    ],
)
def test_broken_files_are_named(text, said, tmp_path):
    with pytest.raises(BenchmarkError, match=said):
        _open(_files(tmp_path, text))


def test_missing_files_and_empty_folders_are_named(tmp_path):
    with pytest.raises(BenchmarkError, match="holds 0 CSV files"):
        _open(tmp_path)
    with pytest.raises(BenchmarkError, match="is missing"):
        _open(tmp_path / "none.csv")
    (tmp_path / "audio").mkdir()
    with pytest.raises(BenchmarkError, match="audio holds no sound"):
        _open(_files(tmp_path, OWN + "a,x,1\n"))


def test_sets_are_scored_by_every_listener(tmp_path):
    ids = [f"{number:02}" for number in range(12)]
    windows = {"audio": embeddings(1, 24, 4), "g": embeddings(2.5, 24, 4, shift=0.1)}
    named = {"audio": logits(1.1, 12, 3, 3.0), "g": logits(0.3, 12, 3, 3.0)}
    heard = {
        f"{side}/{id}": Heard(windows[side][2 * row : 2 * row + 2], named[side][row : row + 1])
        for side in windows
        for row, id in enumerate(ids)
    }
    known = Known(vggish=Listener("vggish", heard), panns=Listener("panns", heard))
    known.evaluator("vggish").labels = ()
    benchmark = _open(_files(tmp_path, OWN + "".join(f"{id},c,1\n" for id in ids), ids), known)
    scores = _scores(benchmark, _replies(tmp_path / "g", ids))
    distance = frechet.frechet_distance(windows["audio"], windows["g"])
    assert scores["fad_vggish"].value == pytest.approx(distance) == scores["fd_panns"].value
    assert not {"kl_vggish_reference_generated", "is_vggish"} & scores.keys(), "it names no classes"
    ways = {"kl_panns_reference_generated": ("audio", "g"), "kl_panns_generated_reference": ("g", "audio")}
    for name, (first, second) in ways.items():
        assert scores[name].value == pytest.approx(divergence.divergences(named[first], named[second]).mean())
    assert scores["is_panns"].value == pytest.approx(inception.inception_score(named["g"])[0])
    assert scores["tag_agreement_panns"].value == 1.0, "there are three classes, all among the strongest five"
    assert "12 captions" in scores["fad_vggish"].note and "12 recordings" in scores["fad_vggish"].note


def test_whatever_is_missing_has_no_value_and_says_why(tmp_path):
    benchmark = _open(_files(tmp_path, OWN + "a,x,3\nb,y,2\nc,z,1\n"))
    replies = _replies(tmp_path / "g", ["a"], seconds=2.0) | {"b": Reply(audio=tmp_path / "gone.wav")}
    scores = _scores(benchmark, replies)
    missing = {"fad_vggish", "fd_panns", "fd_passt", "fd_openl3", "fad_yamnet"}
    missing |= {"musicnn", "clap", "dnsmos", "audiobox"}
    assert scores.keys() == missing | {"duration_error"}
    assert all(scores[name].value is None and "is not here" in scores[name].note for name in missing)
    assert (scores["duration_error"].value, scores["duration_error"].unit) == (1.0, "s")
    assert (scores["duration_error"].scored, scores["duration_error"].expected) == (1, 3)
    first, second, _ = benchmark.items()
    with pytest.raises(RecordError, match="audio_missing"):
        benchmark.verdicts(second, replies["b"])
    with pytest.raises(RecordError, match="no_audio"):
        benchmark.verdicts(first, Reply(text="no"))
    assert benchmark.failed is None and benchmark.unit == ""


def test_one_clip_and_no_references_have_no_distance(tmp_path):
    one = {f"{side}/a": Heard(np.zeros((1, 4)), np.zeros((1, 3))) for side in ("audio", "g")}
    known = Known(yamnet=Listener("yamnet", one))
    replies = _replies(tmp_path / "g", ["a"])
    scores = _scores(_open(_files(tmp_path / "one", OWN + "a,x,1\n", ["a"]), known), replies)
    assert (
        scores["fad_yamnet"].value is None and "two windows or more, there are 1" in scores["fad_yamnet"].note
    )
    assert scores["kl_yamnet_reference_generated"].value == pytest.approx(-3e-6, rel=1e-3)
    assert scores["is_yamnet"].value is None and "needs 10 clips" in scores["is_yamnet"].note
    scores = _scores(_open(_files(tmp_path / "none", OWN + "a,x,1\n"), known), replies)
    assert "no reference clips" in scores["fad_yamnet"].note
    assert "no clip has a reference" in scores["kl_yamnet_generated_reference"].note
    scores = _scores(_open(_files(tmp_path / "one", OWN + "a,x,1\n", ["a"]), known), {})
    assert scores["fad_yamnet"].value is None and "no clip was generated" in scores["fad_yamnet"].note


def test_stereo_and_other_rates_are_heard_and_said(tmp_path):
    benchmark = _open(_files(tmp_path, OWN + "a,x,\n", ["a"], seconds=2.0))
    replies = _replies(tmp_path / "g", ["a"], seconds=1.5, rate=44_100, channels=2)
    (each,) = judged(benchmark, replies)
    verdict = each.verdicts["duration_error"]
    assert verdict.value == pytest.approx(0.5, abs=1e-3)
    assert "2 channels, of which the first is heard; 44100 Hz, resampled" in verdict.reason


def test_real_clips_beside_their_like(tmp_path, demo_clips):
    """Four pieces of music for four captions are nearer to recordings of music than speech is."""
    known = Known(yamnet=installed("yamnet"), dnsmos=installed("dnsmos"))
    clips = {
        kind: sorted((demo_clips / "audio").glob(f"{kind}*"))[:4]
        for kind in ("understanding_music", "generation_music", "understanding_speech")
    }
    folder = _files(tmp_path, OWN + "".join(f"{n},a piece of music,\n" for n in range(4)))
    (folder / "audio").mkdir()
    for number, clip in enumerate(clips["understanding_music"]):
        (folder / "audio" / f"{number}.wav").symlink_to(clip)
    benchmark = _open(folder, known)
    music, speech = (
        _scores(benchmark, {str(number): Reply(audio=clip) for number, clip in enumerate(clips[kind])})
        for kind in ("generation_music", "understanding_speech")
    )
    assert music["fad_yamnet"].value < 0.6 * speech["fad_yamnet"].value
    assert music["kl_yamnet_reference_generated"].value < speech["kl_yamnet_reference_generated"].value
    assert music["tag_agreement_yamnet"].value > speech["tag_agreement_yamnet"].value
    assert speech["dnsmos_ovrl"].value > music["dnsmos_ovrl"].value
