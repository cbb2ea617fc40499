"""Mixtures through the cache job: rates by size, by direction and by domain; SeqIO's own functions and nesting."""

import functools
import json

import numpy as np
import pytest
import seqio
from task_helpers import cache_mixture, caches, clip, config

from bagpiper_jax import audio
from bagpiper_jax.data.lock import read_lock
from bagpiper_jax.data.rates import Mixing, RateError
from bagpiper_jax.manifest import write_manifest
from tasks import settings

COUNTS = {"speech": 8, "sound": 4, "music": 2}
NO_CODES = {f"user_{d}_caption_to_audio": 0.0 for d in (*COUNTS, "mixed")} | {
    "user_mixed_audio_to_caption": 0.0
}
PUBLISHED = {"*_music_audio_to_caption": 3.15, "*_sound_audio_to_caption": 3.17}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    (root / "user" / "audio").mkdir(parents=True)
    clips = [
        clip(f"{d}{i}", domain=d, caption="word " * (i + 1)) for d, n in COUNTS.items() for i in range(n)
    ]
    for c in clips:
        audio.write(root / "user" / c.audio, np.full(8000, 0.01, np.float32))
    write_manifest(root / "user", clips)
    return root


def by(mixing: Mixing) -> dict[str, Mixing]:
    return {"user_pretraining_by_domain": mixing}


def mixed(root, mixture="user_pretraining_by_domain", rates=NO_CODES, **fields):
    return cache_mixture(
        config(root, mixtures=(mixture,), rates=rates, splits=("train",), shard_inputs=99, **fields)
    )


def test_tasks_by_domain_take_their_clips_and_count_the_others(root):
    made = caches(mixed(root))
    for domain, count in COUNTS.items():
        counts = made[f"user_{domain}_audio_to_caption"].manifest["counts"]
        assert counts == {"ok": count, "skipped other_domain": sum(COUNTS.values()) - count}


@pytest.mark.parametrize("unit", ["examples", "tokens"])
def test_domains_mix_by_size_and_factor_and_directions_by_share(root, unit):
    shares = {"*_audio_to_caption": 3.0, "*_text_only": 1.0}
    path = mixed(root, rate_unit=unit, mixing=by(Mixing(shares=shares, factors=PUBLISHED)))
    rates = {task.task: task.rate for task in read_lock(path).tasks("train")}
    size = {
        n: len(c) if unit == "examples" else int(c.index["length"].sum()) for n, c in caches(path).items()
    }
    heard = {d: f"user_{d}_audio_to_caption" for d in COUNTS}
    weight = {d: size[n] * {"speech": 1.0, "sound": 3.17, "music": 3.15}[d] for d, n in heard.items()}
    for domain, name in heard.items():
        assert rates[name] == pytest.approx(0.75 * weight[domain] / sum(weight.values()))
    assert rates["user_text_only"] == pytest.approx(0.25) and sum(rates.values()) == pytest.approx(1.0)


def test_without_mixing_the_mixtures_own_rates_stand(root):
    own = NO_CODES | {"user_text_only": 5}
    rates = {t.task: t.rate for t in read_lock(mixed(root, rates=own)).tasks("train")}
    assert rates == {"user_text_only": 5.0} | {f"user_{d}_audio_to_caption": 1.0 for d in COUNTS}


def test_seqios_rate_functions_and_nested_mixtures_resolve(root):
    settings.configure(settings.Settings(data_root=str(root)))
    by_size = functools.partial(seqio.mixing_rate_num_examples, temperature=2.0, scale=1.0)
    tasks = ["user_speech_audio_to_caption", "user_music_audio_to_caption"]
    if "nested_outer" not in seqio.MixtureRegistry.names():
        seqio.MixtureRegistry.add("nested_inner", tasks, default_rate=by_size)
        seqio.MixtureRegistry.add("nested_outer", [("nested_inner", 3.0), ("user_text_only", 1.0)])
    rates = {t.task: t.rate for t in read_lock(mixed(root, "nested_outer", {})).tasks("train")}
    assert rates["user_text_only"] == 1.0
    assert rates[tasks[0]] == rates[tasks[1]]  # SeqIO sizes a task by its source, here the same manifest
    assert sum(rates[t] for t in tasks) == pytest.approx(3.0)


def test_a_pattern_that_means_nothing_is_refused_with_the_nearest_name(root):
    with pytest.raises(RateError, match=r"'\*_musik_audio_to_caption' matches no task.*did you mean"):
        mixed(root, mixing=by(Mixing(factors={"*_musik_audio_to_caption": 2.0})))


def test_the_lock_is_all_that_changes(root):
    before = json.loads(mixed(root).read_text())
    after = json.loads(mixed(root, mixing=by(Mixing(temperature=2.0))).read_text())
    for lock in (before, after):
        for task in lock["splits"]["train"]:
            del task["rate"]
    assert before == after
