"""Metrics of generated audio give what the official scripts give, on the same inputs."""

import time

import numpy as np
import pytest
from official_scores import embeddings, golden, logits

from bagpiper_jax.evaluation.metrics import (
    aesthetics,
    clap,
    divergence,
    dnsmos,
    duration,
    frechet,
    inception,
    tags,
)

GENERATION, DNSMOS = golden("audio_generation"), golden("dnsmos")
PAIRS = {case["name"]: case for case in GENERATION["frechet"]}
DIRECTIONS = {
    "kl_reference_generated": lambda case: case["audioldm_eval"]["kullback_leibler_divergence_softmax"],
    "kl_generated_reference": lambda case: case["stable_audio_metrics"],
    "kl_sigmoid": lambda case: case["audioldm_eval"]["kullback_leibler_divergence_sigmoid"],
}


@pytest.mark.parametrize("name", sorted(PAIRS.keys() - {"one row"}))
def test_frechet_distance_is_that_of_four_scripts(name):
    case = PAIRS[name]
    found = frechet.frechet_distance(embeddings(**case["background"]), embeddings(**case["evaluated"]))
    official = [v for results in case["result"].values() for v in results.values() if isinstance(v, float)]
    assert len(official) >= 5
    assert [found] * len(official) == pytest.approx(official, rel=1e-5, abs=1e-12)
    other_way = frechet.frechet_distance(embeddings(**case["evaluated"]), embeddings(**case["background"]))
    assert other_way == pytest.approx(found, rel=1e-6, abs=1e-12)


def test_one_window_has_no_frechet_distance():
    case = PAIRS["one row"]
    with pytest.raises(frechet.TooFewWindows, match="there are 1"):
        frechet.frechet_distance(embeddings(**case["background"]), embeddings(**case["evaluated"]))
    with pytest.raises(frechet.TooFewWindows, match="there are 0"):
        frechet.frechet_distance(np.zeros((0, 3)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="NaN"):
        frechet.frechet_distance(np.full((3, 3), np.nan), np.zeros((4, 3)))


def test_frechet_distance_of_ten_thousand_windows_is_quick():
    rows = np.random.default_rng(0).standard_normal((2, 10_000, 512))
    begun = time.process_time()
    assert 0 < frechet.frechet_distance(*rows) < 30
    assert time.process_time() - begun < 8, "seconds of all cores together; about two pass on two of them"


def _logits(case: dict) -> tuple[np.ndarray, np.ndarray]:
    sides = ("reference", "generated")
    return divergence.paired(
        *(dict(zip(case[f"{side}_files"], logits(**case[side]), strict=True)) for side in sides)
    )


@pytest.mark.parametrize("case", GENERATION["kl"], ids=lambda case: case["name"])
def test_divergence_has_two_directions(case):
    reference, generated = _logits(case)
    found = {
        "kl_reference_generated": divergence.divergences(reference, generated),
        "kl_generated_reference": divergence.divergences(generated, reference),
        "kl_sigmoid": divergence.divergences(reference, generated, divergence.sigmoid),
    }
    # The scripts compute in float32: what they give for equal clips is good to 1e-7 of the terms that cancel.
    for name, official in DIRECTIONS.items():
        assert found[name].mean() == pytest.approx(official(case), rel=1e-5, abs=1e-7), name


def test_missing_clips_are_left_out_of_pairs():
    reference, generated = _logits(GENERATION["kl"][3])
    assert reference.shape == generated.shape == (3, 10)


@pytest.mark.parametrize(
    "case", GENERATION["passt_windows"]["cases"], ids=lambda case: f"{case['seconds']} s"
)
def test_windows_of_passt(case):
    samples = round(case["seconds"] * 32_000)
    ours = [vars(window) for window in divergence.windows_of_stable_audio_metrics(samples, 32_000)]
    assert ours == case["stable_audio_metrics"]
    assert [window.given for window in divergence.windows_of_audiocraft(samples, 32_000)] == case[
        "audiocraft"
    ]


@pytest.mark.parametrize("case", GENERATION["inception_score"], ids=lambda case: case["name"])
def test_inception_score(case):
    head = np.random.RandomState(case["shuffle_seed"]).permutation(case["logits"]["n"])[:8]
    assert head.tolist() == case["permutation_head"]
    found = inception.inception_score(logits(**case["logits"]), case["splits"], case["shuffle_seed"])
    official = [float(value) for value in case["result"].values()]
    assert found == pytest.approx(official, rel=1e-6, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("case", GENERATION["clap"], ids=lambda case: case["name"])
def test_clap_score(case):
    audio = {key: value for key, value in case["audio"].items() if key != "zero"}
    sides = [logits(**side).astype(np.float64) for side in (case["text"], audio)]
    if "zero" in case["audio"]:
        sides[1][case["audio"]["zero"]] = 0
    found, official = clap.cosines(*sides), case["torch_cosine"]
    assert found.mean() == pytest.approx(official["mean"], abs=1e-8)
    assert found[: len(official["per_pair"])] == pytest.approx(official["per_pair"], abs=1e-8)
    assert found.mean() == pytest.approx(case["frechet_audio_distance"]["mean"], abs=2e-8)


def test_aesthetics_weigh_windows_by_their_audio():
    case = GENERATION["aesthetics_windows"][0]
    weights = [aesthetics.weights(samples) for samples in case["samples"]]
    assert sum(weights, []) == case["weights"]
    scores = iter(case["per_window_score"])
    found = [
        aesthetics.clip_score(samples, [next(scores) for _ in own])
        for samples, own in zip(case["samples"], weights, strict=True)
    ]
    assert found == pytest.approx(case["clip_scores"], rel=1e-5)


@pytest.mark.parametrize("case", DNSMOS["windows"], ids=lambda case: f"{case['samples']} samples")
def test_windows_of_dnsmos(case):
    repeated = dnsmos.doubled(np.zeros(case["samples"], np.float32))
    assert len(repeated) == case["after_repeat"]
    # The golden count knows nothing of the windows that the script skips, from the eighth to the twenty-fourth.
    assert len(dnsmos.starts(len(repeated))) == min(case["windows"], 7)


def test_dnsmos_hears_on_after_the_windows_that_it_skips():
    assert dnsmos.starts(40 * dnsmos.RATE)[6:9] == [6 * dnsmos.RATE, 24 * dnsmos.RATE, 25 * dnsmos.RATE]


def test_nothing_is_not_repeated():
    with pytest.raises(ValueError, match="no sample"):
        dnsmos.doubled(np.zeros(0, np.float32))


def test_duration_error_and_tag_agreement():
    assert duration.error(10, 8.5) == duration.error(8.5, 10) == 1.5
    with pytest.raises(ValueError, match="cannot be wanted"):
        duration.error(0, 1)
    assert tags.agreement(np.arange(10), np.arange(10)) == 1
    assert tags.agreement(np.arange(10), -np.arange(10)) == 0
    assert tags.agreement(np.array([9, 8, 7, 0, 0]), np.array([9, 0, 0, 8, 7]), top=3) == pytest.approx(1 / 3)
