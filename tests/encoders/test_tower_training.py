"""Pre-training of an audio tower: its data, a run that is killed and continues, and its way into a model."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from encoder_helpers import ANNOTATION, metrics, whole_and_killed, write_corpus

from bagpiper_jax.encoders import tower, tower_data
from bagpiper_jax.encoders.tags import Tags
from bagpiper_jax.encoders.waveforms import Waveforms
from bagpiper_jax.manifest import Clip
from bagpiper_jax.models.configs import AudioTowerConfig

TINY_RUN = """
AudioTowerConfig.layers = 1
AudioTowerConfig.width = 16
AudioTowerConfig.heads = 2
AudioTowerConfig.ffn_width = 16
AudioTowerConfig.conv_channels = 4
AudioTowerConfig.output_width = 16
AudioTowerConfig.dtype = 'float32'
BagpiperConfig.tower = @AudioTowerConfig()
TrainTowerConfig.model = @BagpiperConfig()
TrainTowerConfig.steps = 24
TrainTowerConfig.learning_rate = 1e-2
TrainTowerConfig.warmup_steps = 2
TrainTowerConfig.batch_clips = 2
TrainTowerConfig.chunks = 1
TrainTowerConfig.log_every = 1
TrainTowerConfig.save_every = 3
TrainTowerConfig.validate_every = 12
"""


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "corpus", clips=24, annotated=True)


def test_tokens_carry_the_tags_of_their_centres(corpus):
    waveforms = Waveforms([corpus], "train", annotated=True)
    tags = Tags(clip for _, clip in waveforms.clips)
    clip = Clip(id="x", split="train", domain="sound", audio="x.wav", annotation=ANNOTATION)
    batch = tower_data.collate([(clip, np.zeros(16_000, np.float32), 0)], tags, 2)
    centres = np.arange(13) * 0.08
    inside = (0.2 <= centres) & (centres < 0.6)
    np.testing.assert_array_equal(batch.tags[0, :13, 0], inside)
    assert batch.valid[0, :13].all() and not batch.valid[0, 13:].any() and not batch.tags[0, 13:].any()
    assert batch.chunk_frames.tolist() == [[100, 0]]


def test_batches_are_a_function_of_the_step_and_half_are_copies(corpus):
    waveforms = Waveforms([corpus], "train", annotated=True)
    tags = Tags(clip for _, clip in waveforms.clips)
    copied = []

    def copy(index, waveform):
        copied.append(index)
        return np.zeros_like(waveform)

    first, again = (tower_data.draw(waveforms, tags, copy, 3, 5, 40, 1) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert 10 < len(copied) // 2 < 30
    other = tower_data.draw(waveforms, tags, copy, 3, 6, 40, 1)
    assert not np.array_equal(first.mel, other.mel)


def test_padding_tokens_bear_no_loss(corpus):
    waveforms = Waveforms([corpus], "train", annotated=True)
    tags = Tags(clip for _, clip in waveforms.clips)
    config = AudioTowerConfig(
        layers=1, width=16, heads=2, ffn_width=16, conv_channels=4, output_width=16, dtype="float32"
    )
    run = tower.TrainTowerConfig("", (), model=_model(config))
    weights = tower.initial_state(run, len(tags)).weights
    clip = waveforms.clips[0][1]
    short = tower_data.collate([(clip, waveforms.read(0), 0)], tags, 1)
    padded = tower_data.collate([(clip, waveforms.read(0), 0)], tags, 3)
    loss = jax.jit(tower.tag_loss, static_argnums=1)
    np.testing.assert_allclose(loss(weights, config, padded), loss(weights, config, short), rtol=1e-5)


def _model(config):
    from bagpiper_jax.models.configs import BagpiperConfig

    return BagpiperConfig(tower=config)


@pytest.mark.slow
def test_a_killed_run_continues_bit_for_bit_and_its_tower_imports(corpus, tmp_path):
    training = "train_tower", "TrainTowerConfig"
    whole, killed = whole_and_killed(*training, TINY_RUN, corpus, tmp_path, "tower.safetensors")

    assert (killed / "tower.safetensors").read_bytes() == (whole / "tower.safetensors").read_bytes()
    assert metrics(killed) == metrics(whole)
    losses = [line["loss"] for line in metrics(whole, "train")]
    assert len(losses) == 24
    assert np.mean(losses[-4:]) < 0.8 * losses[0]
    scores = json.loads((whole / "tower_report.json").read_text())["scores"]
    assert scores["kind"] == scores["level"] == 1.0  # one tag each: nothing to confuse

    start = tmp_path / "start"
    arguments = ["--gin_file", tmp_path / "small.gin", f"--gin.ImportConfig.output={str(start)!r}"]
    arguments += [f"--gin.ImportConfig.tower={str(whole / 'tower.safetensors')!r}"]
    settings = [line for line in TINY_RUN.splitlines() if not line.startswith("TrainTower")]
    decoder = ["layers = 1", "width = 16", "ffn_width = 16", "heads = 2", "kv_heads = 1", "head_width = 8"]
    settings += [f"DecoderConfig.{line}" for line in decoder] + ["BagpiperConfig.decoder = @DecoderConfig()"]
    (tmp_path / "small.gin").write_text("\n".join(settings))
    subprocess.run(
        [sys.executable, "-m", "bagpiper_jax", "import_checkpoint", *map(str, arguments)], check=True
    )
    assert (start / "config.json").exists()
