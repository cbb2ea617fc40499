"""Rates of a mixture against the published rule, worked out by repeating examples."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bagpiper_jax import configuration
from bagpiper_jax.caching.config import CacheConfig
from bagpiper_jax.data.planner import Plan, TaskLengths
from bagpiper_jax.data.rates import Mixing, RateError, TaskSize, expected_epochs

DIRECTIONS = ("caption_to_audio", "audio_to_caption")


def sizes(**tokens) -> list[TaskSize]:
    return [TaskSize(name, 1.0, max(1, n // 10), n) for name, n in tokens.items()]


def test_published_rates_are_those_of_repeating_examples_and_equal_budgets():
    flags = ["mixtures=('x',)", "data_root=d", "cache_dir=c", "mixing={'x': @published/Mixing()}"]
    config = configuration.build(
        CacheConfig, ["gin/mixtures/published.gin"], [f"CacheConfig.{f}" for f in flags]
    )
    tasks = sizes(
        x_music_audio_to_caption=1000, x_sound_audio_to_caption=500, x_speech_audio_to_caption=9000,
        x_music_caption_to_audio=1500, x_sound_caption_to_audio=800, x_speech_caption_to_audio=20000, x_text_only=70000,
    )  # fmt: skip
    rates = config.mixing["x"].rates(tasks, config.rate_unit)
    heard = 3.15 * 1000 + 3.17 * 500 + 9000
    made = 4.21 * 1500 + 4.27 * 800 + 20000
    assert rates["x_text_only"] == pytest.approx(1 / 3)
    assert rates["x_music_audio_to_caption"] == pytest.approx(3.15 * 1000 / heard / 3)
    assert rates["x_speech_caption_to_audio"] == pytest.approx(20000 / made / 3)
    epochs = expected_epochs(rates, tasks, "tokens", 600e9)
    for direction, factor in zip(DIRECTIONS, (4.21, 3.15), strict=True):
        assert epochs[f"x_music_{direction}"] / epochs[f"x_speech_{direction}"] == pytest.approx(factor)


def test_temperature_flattens_as_in_seqio():
    """seqio.mixing_rate_num_examples: 200 and 400 examples at temperature 2 mix as 14.14 to 20."""
    tasks = [TaskSize("a", 1.0, 200, 5), TaskSize("b", 1.0, 400, 5)]
    rates = Mixing(temperature=2.0).rates(tasks, "examples")
    assert rates["a"] / rates["b"] == pytest.approx(math.sqrt(200 / 400))
    assert Mixing().rates(tasks, "examples") == pytest.approx({"a": 1 / 3, "b": 2 / 3})
    even = Mixing(temperature=None).rates([TaskSize("a", 3.0, 1, 1), TaskSize("b", 1.0, 999, 1)], "examples")
    assert even == pytest.approx({"a": 0.75, "b": 0.25})


def test_the_mixtures_own_rates_and_overlapping_factors_multiply():
    tasks = [TaskSize("x_music_a", 2.0, 10, 10), TaskSize("x_sound_a", 1.0, 10, 10)]
    rates = Mixing(factors={"*_music_*": 3.0, "*_a": 7.0}).rates(tasks, "tokens")
    assert rates["x_music_a"] / rates["x_sound_a"] == pytest.approx(2.0 * 3.0)


@pytest.mark.parametrize(
    ("mixing", "message"),
    [
        (
            {"factors": {"*_musik_*": 2.0}},
            r"factors: '\*_musik_\*' matches no task.*did you mean 'x_music_",
        ),
        ({"shares": {"*_a": 1.0}}, "task x_music_b must match one pattern, it matches none of"),
        ({"shares": {"*_a": 1.0, "*_b": 1.0, "*music*": 1.0}}, r"it matches \*_a and \*music\*"),
        ({"shares": {"*": -1.0}}, "Mixing.shares must be positive"),
        ({"factors": {"*": math.nan}}, "Mixing.factors must be positive"),
        ({"temperature": 0.0}, "temperature must be positive"),
    ],
)
def test_what_cannot_be_meant_is_refused(mixing, message):
    with pytest.raises(RateError, match=message):
        Mixing(**mixing).rates(sizes(x_music_a=10, x_music_b=10), "tokens")


def test_a_task_without_examples_and_an_unknown_unit_are_refused():
    with pytest.raises(RateError, match="task a has 0 tokens"):
        Mixing().rates([TaskSize("a", 1.0, 0, 0)], "tokens")
    with pytest.raises(RateError, match="count examples or tokens, not 'hours'"):
        Mixing().rates([TaskSize("a", 1.0, 1, 1)], "hours")


@given(
    st.lists(
        st.tuples(st.integers(1, 10**9), st.floats(0.01, 100), st.sampled_from("ab")), min_size=1, max_size=8
    ),
    st.floats(0.5, 10),
    st.sampled_from(["examples", "tokens"]),
)
def test_shares_hold_whatever_the_sizes(parts, temperature, unit):
    tasks = [TaskSize(f"{i}_{group}", rate, n, 3 * n) for i, (n, rate, group) in enumerate(parts)]
    present = {task.name[-1] for task in tasks}
    wanted = {f"*_{g}": {"a": 3.0, "b": 1.0}[g] for g in present}
    rates = Mixing(shares=wanted, temperature=temperature).rates(tasks, unit)
    assert math.fsum(rates.values()) == pytest.approx(1.0)
    for group in present:
        share = math.fsum(r for name, r in rates.items() if name.endswith(group))
        assert share == pytest.approx(wanted[f"*_{group}"] / sum(wanted.values()))


def test_a_plan_gives_the_token_shares_that_were_asked():
    rng = np.random.default_rng(0)
    lengths = {"x_music_a": rng.integers(50, 900, 4000), "x_speech_a": rng.integers(10, 80, 9000)}
    tasks = [TaskSize(n, 1.0, len(length), int(length.sum())) for n, length in lengths.items()]
    rates = Mixing(factors={"*_music_*": 4.21}).rates(tasks, "tokens")
    nothing = {n: np.zeros(len(length), np.int32) for n, length in lengths.items()}
    plan = Plan(
        [TaskLengths(n, rates[n], length.astype(np.int32), nothing[n], nothing[n]) for n, length in lengths.items()],
        1024, 0, seed=0, rate_unit="tokens",
    )  # fmt: skip
    rows = [row for window in range(3) for row in plan.window(window)]
    got = [sum(int(r.length[r.task == t].sum()) for r in rows) for t in range(2)]
    assert got[0] / sum(got) == pytest.approx(rates["x_music_a"], abs=0.01)
