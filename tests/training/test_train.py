"""The loop in one process, on eight devices: what it writes, what it refuses, and that nothing recompiles."""

import gc
import inspect
import json
import logging
import re
import resource
from pathlib import Path

import jax
import numpy as np
import pytest
from synthetic_cache import write_mixture
from training_helpers import CONFIG, SHAPE, TINY_FLAGS, VOCABULARY, SyntheticLoader, make_batch, with_

from bagpiper_jax.data import loader
from bagpiper_jax.data.cache import CacheError
from bagpiper_jax.errors import Explained
from bagpiper_jax.jobs import train as job
from bagpiper_jax.models.config_json import load_model_config
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.runs.heartbeat import WatchConfig
from bagpiper_jax.text import load_tokenizer
from bagpiper_jax.training import checkpoints
from bagpiper_jax.training.checkpoints import CheckpointError
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.loop import UNIGRAM_BATCHES, train
from bagpiper_jax.training.metrics import MetricWriter, Unigram

# Orbax leaves a coroutine behind when a save fails.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CONFIG8 = with_(mesh=MeshConfig(fsdp=8), log_every=1, save_every=3, validate_every=3, steps=6)
PROFILED = with_(CONFIG8, watch=WatchConfig(profile=(5, 6)))
VALIDATION = [make_batch(500), make_batch(501)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(output, compilations per step asked for) of a run of six steps."""
    output = tmp_path_factory.mktemp("trained")
    compilations, marks = [], []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: (
            compilations.append(name) if name.endswith("backend_compile_duration") else None
        )
    )

    class Marking(SyntheticLoader):
        def batch(self, step):
            marks.append(len(compilations))
            return super().batch(step)

    assert train(
        with_(PROFILED, output=str(output)), Marking(), VALIDATION, "A.b = 1", {"system_prompt": "Hm."}
    )
    return output, marks + [len(compilations)]


def lines(output):
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def test_nothing_compiles_after_the_first_step(trained):
    """Compilations noted whenever a batch is asked for: 16 times for the unigram model, then by the loop.

    Orbax compiles slices of replicated arrays during the first save, after step 3 (with batch 3 asked for).
    """
    _, marks = trained
    loop = marks[UNIGRAM_BATCHES:]
    assert loop[1] == loop[3] > 0, "steps 1 to 3"
    assert loop[4] == loop[-1], "steps 4 to 6, the second validation and save"


def test_metrics_of_every_interval(trained):
    output, _ = trained
    training = [line for line in lines(output) if line["kind"] == "train"]
    assert [line["step"] for line in training] == [1, 2, 3, 4, 5, 6]
    wanted = {"loss", "loss_stream0", "loss_stream7", "loss_caption_to_audio", "loss_audio_to_caption", "accuracy",
              "tokens_per_second", "padding_share", "gradient_norm", "learning_rate"}  # fmt: skip
    assert wanted <= set(training[-1])
    assert training[-1]["loss"] < training[0]["loss"]
    used = make_batch(0).segment_ids != 0
    assert training[0]["padding_share"] == pytest.approx(1 - used.mean())
    assert list((output / "tensorboard").iterdir())


def test_speed_is_that_of_steps_and_the_account_sums_to_the_wall_time(trained):
    output, _ = trained
    last = lines(output)[-1] if lines(output)[-1]["kind"] == "train" else lines(output)[-2]
    assert last["tokens_per_second_per_chip"] == pytest.approx(last["tokens_per_second"] / 8)
    assert last["skipped_steps"] == 0 and 0 < last["goodput"] < 1
    assert "mfu" not in last, "no peak is published for a CPU"
    account = json.loads((output / "goodput.json").read_text())
    seconds = account["seconds"]
    assert sum(seconds.values()) == pytest.approx(account["wall_seconds"], rel=1e-6)
    assert account["attempts"][0]["end"] == "done" and account["attempts"][0]["to_step"] == 6
    assert all(seconds[phase] > 0 for phase in ("restore", "compile", "step", "data", "checkpoint", "eval"))
    assert seconds["lost"] == seconds["down"] == 0


def test_program_profile_and_settings_are_kept(trained):
    output, _ = trained
    assert "scan" in (output / "step.jaxpr.txt").read_text()
    assert (output / "step.hlo.txt").read_text().startswith("HloModule")
    (trace,) = (output / "profile").rglob("*.xplane.pb")
    assert b"train_step" in trace.read_bytes()
    (events,) = (output / "tensorboard").iterdir()
    assert b"A.b = 1" in events.read_bytes()


def test_validation_stands_beside_the_unigram_model(trained):
    output, _ = trained
    validation = [line for line in lines(output) if line["kind"] == "validation"]
    assert [line["step"] for line in validation] == [3, 6]
    summary = json.loads((output / "metrics.json").read_text())
    assert summary["step"] == 6 and summary["validation"]["loss"] == validation[-1]["loss"]
    expected = Unigram(map(SyntheticLoader().batch, range(UNIGRAM_BATCHES)), VOCABULARY).loss(VALIDATION)
    assert validation[-1]["unigram_loss"] == expected


def test_provenance_is_saved_beside_the_checkpoint(trained):
    output, _ = trained
    assert (output / "operative.gin").read_text() == "A.b = 1"
    environment = json.loads((output / "environment.jsonl").read_text())
    assert environment["packages"]["jax"] == jax.__version__ and environment["devices"] == 8
    extras = load_model_config(output / "checkpoints" / "6")[1]
    assert extras == {"tokenizer": None, "codec": None, "stage": "scratch", "system_prompt": "Hm."}
    stored = (output / "checkpoints" / "6" / "provenance" / "metadata").read_text()
    assert json.loads(stored)["gin"] == "A.b = 1"


def test_finished_run_does_nothing(trained):
    output, _ = trained
    before = (output / "metrics.jsonl").read_text()
    assert train(with_(CONFIG8, output=str(output)), SyntheticLoader())
    assert (output / "metrics.jsonl").read_text() == before


def test_changed_data_is_refused(trained):
    output, _ = trained
    with pytest.raises(ValueError, match="seed 0, this run has 9"):
        train(with_(CONFIG8, output=str(output), steps=8), SyntheticLoader(seed=9))


def test_init_from_takes_parameters_only(trained, tmp_path):
    output, _ = trained
    config = with_(
        CONFIG8, output=str(tmp_path), init_from=str(output), stage="sft", steps=1, validate_every=0
    )
    assert train(config, SyntheticLoader(), VALIDATION)
    last = [line for line in lines(output) if line["kind"] == "validation"][-1]
    first = [line for line in lines(tmp_path) if line["kind"] == "validation"][-1]
    assert first["step"] == 1, "the step counter starts anew"
    assert first["loss"] == pytest.approx(last["loss"], rel=1e-5), "rate 0 at step 0: the same parameters"


@pytest.fixture
def limit_files():
    """Sets the largest size a file may reach; writing more then fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (soft if size is None else size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    gc.collect()  # what Orbax left behind warns here, not in the middle of another test


def test_full_disk_stops_the_run(tmp_path, monkeypatch, limit_files):
    monkeypatch.setattr(checkpoints, "RETRY_SECONDS", (0.1, 0.1))

    class DiskFillsUp(SyntheticLoader):
        def batch(self, step):
            if step == 3:
                limit_files(20_000)
            return super().batch(step)

    with pytest.raises(CheckpointError, match="Last complete checkpoint: .*Free space"):
        train(with_(CONFIG8, output=str(tmp_path)), DiskFillsUp())


def test_a_disk_that_works_again_costs_no_run(tmp_path, monkeypatch, caplog, limit_files):
    """Full when step 3 is to be saved, and still when that is repeated."""
    monkeypatch.setattr(checkpoints, "RETRY_SECONDS", (0.0, 0.0, 0.5))

    class DiskIsFullForAWhile(SyntheticLoader):
        def batch(self, step):
            failures = len(re.findall(r"saving step \d+ failed", caplog.text))
            limit_files(20_000 if 2 <= step and failures < 2 else None)
            return super().batch(step)

    with caplog.at_level(logging.WARNING, "bagpiper_jax"):
        assert train(with_(CONFIG8, output=str(tmp_path), steps=40), DiskIsFullForAWhile())
    assert "saving step 3 failed, next try in 0 s: " in caplog.text
    assert (tmp_path / "checkpoints" / "40").exists() and not (tmp_path / "crash.txt").exists()


def test_a_full_disk_costs_no_metrics(tmp_path, caplog, limit_files):
    """Lines are written once there is room; TensorBoard's events end, and nothing waits for them."""
    writer = MetricWriter(tmp_path, 0)
    for step in range(1, 41):
        limit_files(500 if 10 <= step < 20 else None)
        writer.write(step, {"loss": 1.0 / step})
    writer.close()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(s, 1 / s) for s in range(1, 41)]
    assert "Its lines are kept" in caplog.text and "no more events" in caplog.text


def test_unigram_counts_what_the_loss_counts():
    batch = make_batch(0)
    uniform = Unigram([], VOCABULARY)
    weights = batch.loss_weights[:, 1:].astype(np.float64)
    expected = weights[..., 0].sum() * np.log(VOCABULARY.size) + weights[..., 1:].sum() * np.log(
        VOCABULARY.codec_size
    )
    assert uniform.loss([batch]) == pytest.approx(expected / (weights[..., 0] != 0).sum())
    assert Unigram([batch], VOCABULARY).loss([batch]) < uniform.loss([batch])


def test_writer_drops_what_follows_the_checkpoint(tmp_path):
    first = MetricWriter(tmp_path, 0)
    for step in (1, 2, 3):
        first.write(step, {"loss": 1.0})
    first.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "lo')
    second = MetricWriter(tmp_path, 2)
    second.write(3, {"loss": 2.0})
    second.close()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(1, 1.0), (2, 1.0), (3, 2.0)]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"stage": "stage2"}, "none of scratch, warmup, pretrain, sft"),
        ({"accumulation": 3}, f"batch.rows {SHAPE.rows} do not divide by accumulation 3"),
        ({"cfg_dropout": 5.0}, "no probability"),
        ({"steps": 0}, "at least 1"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        with_(**change)
    assert isinstance(CONFIG, TrainConfig)


def test_the_job_opens_the_tokenizer_once_for_both_mixtures_and_checks_both(tmp_path, monkeypatch):
    """A large vocabulary takes a second to open."""
    opened = []
    monkeypatch.setattr(loader, "load_tokenizer", lambda spec: opened.append(spec) or load_tokenizer(spec))
    monkeypatch.setattr(job, "train", lambda *_: True)
    mixture = {"caption_to_audio": (30, 1.0)}
    good = [write_mixture(tmp_path / split, mixture, split=split) for split in ("train", "validation")]
    other = [
        write_mixture(tmp_path / f"other/{split}", mixture, split=split, tokenizer_fingerprint="other")
        for split in ("train", "validation")
    ]

    def run(train_lock, validation_lock):
        return job.main([
            *TINY_FLAGS, f"--gin.TrainConfig.output='{tmp_path / 'run'}'", "--gin.TrainConfig.tokenizer='byte'",
            f"--gin.TrainConfig.train_lock='{train_lock}'",
            f"--gin.TrainConfig.validation_lock='{validation_lock}'",
        ])  # fmt: skip

    assert run(*good) == 0
    assert opened == ["byte"]
    for locks in ((other[0], good[1]), (good[0], other[1])):
        with pytest.raises(CacheError, match="cached with tokenizer other, this run uses byte"):
            run(*locks)


@pytest.mark.slow
def test_the_job_trains_on_a_cache_and_explains_faults(tmp_path):
    """The entry point, bfloat16 and full rematerialisation, on a real cache of every direction."""
    mixture = {"caption_to_audio": (30, 1.0), "audio_to_caption": (30, 1.0), "understanding": (10, 1.0)}
    lock = write_mixture(tmp_path / "cache", mixture, system_prompt="sys")
    flags = [
        *TINY_FLAGS,
        f"--gin.TrainConfig.output='{tmp_path / 'run'}'",
        f"--gin.TrainConfig.train_lock='{lock}'",
    ]
    held_out = write_mixture(tmp_path / "held_out", mixture, seed=1, split="validation")
    flags.append(f"--gin.TrainConfig.validation_lock='{held_out}'")
    assert job.main(flags) == 0
    assert load_model_config(tmp_path / "run")[1]["system_prompt"] == "sys"
    summary = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"loss_caption_to_audio", "loss_audio_to_caption", "unigram_loss"} <= set(summary["validation"])
    assert "TrainConfig.steps = 3" in (tmp_path / "run" / "operative.gin").read_text()
    assert job.main([*flags, "--gin.TrainConfig.steps=4"]) == 0
    with pytest.raises(Explained, match="cannot resume, the data changed: seed"):
        job.main([*flags, "--gin.TrainConfig.steps=5", "--gin.TrainConfig.seed=1"])
    with pytest.raises(Explained, match=r"(?s).*embed_tokens is \[1032, 16\], should be \[1032, 32\]"):
        job.main([*flags, "--gin.TrainConfig.steps=5", "--gin.DecoderConfig.width=32"])
    header = json.dumps({"__metadata__": {"fingerprint": "another"}}).encode()
    (tmp_path / "codec.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(Explained, match=".*codec.*another"):
        job.main([*flags, f"--gin.TrainConfig.codec='{tmp_path / 'codec.safetensors'}'"])


def test_the_loop_is_read_in_one_sitting():
    files = [Path(job.__file__), Path(inspect.getfile(train))]
    assert sum(len(file.read_text().splitlines()) for file in files) <= 350
