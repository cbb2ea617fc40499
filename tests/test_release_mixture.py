"""The release's mixtures over three small corpora: rates are factor times clips."""

import pytest
from task_helpers import clip

from bagpiper_jax import configuration
from bagpiper_jax.data.export import CacheConfig
from bagpiper_jax.manifest import Clip, write_manifest

pytest.importorskip("seqio")


@pytest.fixture
def root(tmp_path):
    counts = {"music": 2, "sound": 3, "speech": 5}
    for kind, count in counts.items():
        clips = [clip(f"{kind}{i}") for i in range(count)] + [clip("held_out", split="validation")]
        write_manifest(tmp_path / f"release_{kind}", clips)
    write_manifest(tmp_path / "release_text", [Clip("a", "train", "text", text="A document.")])
    return tmp_path


def test_rates_are_the_releases_factors_times_training_clips(root):
    import seqio

    from bagpiper_jax.data.export import _rates
    from tasks import release, settings

    assert set(release.FACTORS) == {"music", "sound", "speech", "text"}
    settings.configure(settings.Settings(data_root=str(root)))
    rates = _rates("release_pretraining", {})
    assert rates == {
        "release_music_audio_to_caption": pytest.approx(3.15 * 2),
        "release_music_caption_to_audio": pytest.approx(4.21 * 2),
        "release_sound_audio_to_caption": pytest.approx(3.17 * 3),
        "release_sound_caption_to_audio": pytest.approx(4.27 * 3),
        "release_speech_audio_to_caption": 5,
        "release_speech_caption_to_audio": 5,
        "release_text_text_only": 1,
    }
    assert {t.name for t in seqio.get_mixture_or_task("release_sft").tasks} == {
        "release_sft_understanding",
        "release_sft_generation",
    }


def test_the_mixture_and_the_runs_agree_on_files_and_row_size():
    from bagpiper_jax.training.config import TrainConfig

    cache = configuration.build(CacheConfig, ["gin/mixtures/release.gin"])
    for stage, mixture in (("pretrain", "release_pretraining"), ("sft", "release_sft")):
        run = configuration.build(TrainConfig, [f"gin/runs/{stage}_8b_v5p_128.gin"])
        assert run.train_lock == f"{cache.cache_dir}/{mixture}.lock.json" and mixture in cache.mixtures
        assert (run.tokenizer, run.codec) == (cache.tokenizer, cache.codec)
        assert (run.batch.slots, run.batch.chunks) == (cache.max_slots, cache.max_chunks)
