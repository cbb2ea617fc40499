"""The release's mixtures: which tasks they hold, how they mix, and that the runs fit them."""

import pytest

from bagpiper_jax import configuration
from bagpiper_jax.caching.config import CacheConfig
from bagpiper_jax.data.rates import TaskSize

pytest.importorskip("seqio")


def test_the_mixtures_hold_each_type_and_direction_and_their_rates_can_be_computed():
    from bagpiper_jax.caching.export import mixture_rates
    from tasks import release

    assert set(release.AUTHORS) == {
        "music_audio_to_caption", "music_caption_to_audio", "sound_audio_to_caption", "sound_caption_to_audio",
        "speech_audio_to_caption", "speech_caption_to_audio", "text_text_only",
    }  # fmt: skip
    config = configuration.build(CacheConfig, ["gin/mixtures/release.gin"])
    for mixture, mixing in config.mixing.items():
        tasks = [TaskSize(name, rate, 10, 1000) for name, rate in mixture_rates(mixture, {}).items()]
        rates = mixing.rates(tasks, config.rate_unit)
        assert set(rates) == {task.name for task in tasks}
    assert rates == pytest.approx({"release_sft_understanding": 0.5, "release_sft_generation": 0.5})


def test_the_mixture_and_the_runs_agree_on_files_and_row_size():
    from bagpiper_jax.training.config import TrainConfig

    cache = configuration.build(CacheConfig, ["gin/mixtures/release.gin"])
    for stage, mixture in (("pretrain", "release_pretraining"), ("sft", "release_sft")):
        run = configuration.build(TrainConfig, [f"gin/runs/{stage}_8b_v5p_128.gin"])
        assert run.train_lock == f"{cache.cache_dir}/{mixture}.lock.json" and mixture in cache.mixtures
        assert (run.tokenizer, run.codec) == (cache.tokenizer, cache.codec)
        assert (run.batch.slots, run.batch.chunks) == (cache.max_slots, cache.max_chunks)
