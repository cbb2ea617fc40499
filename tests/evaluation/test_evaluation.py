"""The whole evaluation of a small untrained model, what it asks of a model, and what it refuses."""

import contextlib
import dataclasses
import json

import numpy as np
import orbax.checkpoint as ocp
import pytest
import scene_corpus
from flax import nnx

from bagpiper_jax.dialogue import Message
from bagpiper_jax.errors import Explained
from bagpiper_jax.evaluation import job
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.job import EvaluateConfig, evaluate
from bagpiper_jax.evaluation.running import job as running
from bagpiper_jax.evaluation.systems import engine as engines
from bagpiper_jax.generation.config import EngineConfig
from bagpiper_jax.generation.replies import Generator, GeneratorError
from bagpiper_jax.generation.sampling import AudioSampling, TextSampling
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.models.bagpiper import Bagpiper
from bagpiper_jax.models.codecs.xcodec import functional
from bagpiper_jax.models.codecs.xcodec.loaded import LoadedXCodec
from bagpiper_jax.models.config_json import ModelConfigError, load_model_config, save_model_config
from bagpiper_jax.models.configs import (
    AudioTowerConfig,
    BagpiperConfig,
    CodecConfig,
    DecoderConfig,
    SemanticEncoderConfig,
)
from bagpiper_jax.models.parameters import unflatten
from bagpiper_jax.text import ByteTokenizer
from bagpiper_jax.training.state import initial_parameters
from bagpiper_jax.vocabulary import Vocabulary

CODEC = CodecConfig(
    encoder_width=4, decoder_width=16, acoustic_width=8, codebook_size=8, codebook_width=16, num_codebooks=4,
    semantic=SemanticEncoderConfig(8, 1, 2, 16, conv_widths=(8,) * 7, positional_kernel=4, positional_groups=2),
)  # fmt: skip
CONFIG = BagpiperConfig(
    DecoderConfig(1, 16, 32, 2, 1, 8, dtype="float32", remat="none"),
    AudioTowerConfig(128, 1, 16, 2, 32, 4, 24, dtype="float32", remat="none"),
    Vocabulary(text_size=256, codebook_size=8, num_streams=4),
)
QUESTIONS = "Question → caption, reasoning, answer"
ENGINE = EngineConfig(rows=2, context=1024, steps=16)
LOOP = LoopConfig(TextSampling(0.0, 0, 1.0, 1, 12), AudioSampling(0.0, 0, 2.0, 8, 12))


@pytest.mark.slow
def test_clips_decoded_together_equal_clips_decoded_alone():
    parameters = functional.initialize(CODEC)
    rng = np.random.default_rng(0)
    parameters["quantizer/embed"] = rng.normal(size=parameters["quantizer/embed"].shape).astype(np.float32)
    codes = [rng.integers(0, 8, (n, 4)) for n in (5, 0, 11)]
    codec = LoadedXCodec(parameters, CODEC)
    together = codec.decode(codes)
    assert [len(wave) for wave in together] == [5 * 320, 0, 11 * 320]
    for wave, clip in zip(together, codes, strict=True):
        np.testing.assert_allclose(wave, codec.decode([clip])[0], atol=1e-5)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return scene_corpus.write_scenes(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A training run's directory as `train` leaves it, untrained."""
    directory = tmp_path_factory.mktemp("run")
    save_model_config(directory, CONFIG, tokenizer="byte", stage="pretrain")
    with ocp.StandardCheckpointer() as checkpointer:
        parameters = unflatten(initial_parameters(CONFIG, 0))
        checkpointer.save(directory / "checkpoints" / "7" / "parameters", parameters)
    lines = [{"step": s, "kind": "train", "loss": 5.0 / s, "loss_stream0": 1.0} for s in range(1, 8)]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = {"validation": {"loss": 0.7, "unigram_loss": 6.0}}
    (directory / "metrics.json").write_text(json.dumps(summary))
    return directory


@pytest.mark.slow
def test_evaluation_of_an_untrained_model_fills_every_section(corpus, run, tmp_path, monkeypatch):
    codec = LoadedXCodec(functional.initialize(CODEC), CODEC)
    loaded = job.load_generator
    for module in (job, engines):
        monkeypatch.setattr(
            module, "load_generator", lambda *names: dataclasses.replace(loaded(*names), codec=codec)
        )
    step = str(run / "checkpoints" / "7")
    config = EvaluateConfig(
        str(corpus),
        str(tmp_path),
        step,
        str(run),
        audios=2,
        requests=1,
        engine=ENGINE,
        caption_steps=12,
        loop=LOOP,
    )
    found = evaluate(config)
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["scores"]) == set(found) and len(found) == 7
    fields = {"value", "expected", "baseline", "deaf", "ceiling", "goal"}
    assert all(fields <= set(score) for table in results["scores"].values() for score in table.values())
    answers, topics = results["scores"][QUESTIONS]["answers"], results["scores"]["Answers by topic"]
    assert answers["expected"] == sum(topic["expected"] for topic in topics.values()) == 3
    cycle = results["scores"]["Caption → audio → caption"]
    assert all(answers[name] is not None for name in ("deaf", "ceiling"))
    assert all(score["deaf"] is not None and score["ceiling"] is not None for score in cycle.values())
    assert results["scores"]["Audio → caption"]["kinds_in_order"]["expected"] == 3
    assert cycle["cycle_kinds_in_order"]["expected"] == 2
    assert results["scores"]["Validation loss"]["pretraining"]["baseline"] == 6.0
    assert results["scores"]["Codec"]["codec_mel_distance"]["value"] > 0
    lines = (tmp_path / "benchmarks/scene_dialogues/predictions.jsonl").read_text().splitlines()
    asked = [line for line in map(json.loads, lines) if line["record"]["kind"] == "question"]
    assert len(asked) == 3 and all(line["verdicts"]["answers"]["value"] == 0 for line in asked)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<audio") == 3 + 2 + 2 + 3 + 1 and "c0 · mixed" in page


def test_evaluation_of_known_replies_is_a_page_and_is_not_paid_twice(corpus, run, tmp_path, monkeypatch):
    """Nothing but the replies decides: a second call asks nothing, and gives the same."""
    system = scene_corpus.KnownSystem()

    @contextlib.asynccontextmanager
    async def opened(*_):
        yield lambda benchmark: system

    monkeypatch.setattr(running, "opened", opened)
    monkeypatch.setattr(job._Judges, "open", lambda self, name, path="": scene_corpus.JUDGES[name])
    monkeypatch.setattr(job._Judges, "codec", scene_corpus.JUDGES["codec"])
    config = EvaluateConfig(str(corpus), str(tmp_path), str(run), str(run), audios=2, requests=1, exhibits=4)
    found = evaluate(config)
    assert list(found) == [
        "Audio → caption", "Caption → audio → caption", "Codec", QUESTIONS, "Answers by topic",
        "Request → reasoning, caption, audio", "Validation loss",
    ]  # fmt: skip
    assert len(system.asked) == 3 + 2 + 3 * 3 + 2
    results = json.loads((tmp_path / "results.json").read_text())
    for section, scores in found.items():
        stored = results["scores"][section]
        assert {name: score["value"] for name, score in stored.items()} == {
            n: s.value for n, s in scores.items()
        }
    assert results["scores"]["Validation loss"]["pretraining"]["baseline"] == 6.0
    page = (tmp_path / "report.html").read_text()
    # Three clips, two copies and two sounds of their captions; two questions and a request.
    assert page.count("<audio") == 3 + 2 + 2 + 2 + 1 and "c0 · mixed" in page
    assert "kinds right" in page and "Codec: use of the codebooks" in page
    assert "baseline" in (tmp_path / "benchmarks/results.md").read_text()
    assert evaluate(config) == found and len(system.asked) == 16


def test_evaluation_without_a_codec_scores_captions_alone(corpus, run, tmp_path):
    config = EvaluateConfig(
        str(corpus), str(tmp_path), str(run), str(run), captions=2, engine=ENGINE, caption_steps=8, loop=LOOP
    )
    found = evaluate(config)
    assert {"Audio → caption", QUESTIONS, "Answers by topic", "Validation loss"} < set(found)
    for section in ("Caption → audio → caption", "Request → reasoning, caption, audio"):
        (lost,) = found[section].values()
        assert lost.value is None and "needs a codec" in lost.note


def test_evaluation_names_what_is_missing(corpus, tmp_path):
    with pytest.raises(BenchmarkError, match="checkpoint"):
        evaluate(EvaluateConfig(str(corpus), str(tmp_path)))


@pytest.mark.parametrize("place", ["file", "file/in", "a" * 300, "a\0b"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(corpus, tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(BenchmarkError, match="cannot be written"):
        evaluate(EvaluateConfig("no corpus", str(tmp_path / place), "run"))


@pytest.mark.parametrize("field", ["captions", "caption_steps", "audios", "requests", "exhibits", "seed"])
def test_settings_that_mean_nothing_are_refused(field):
    with pytest.raises(ValueError, match=f"{field}.*must be at least"):
        EvaluateConfig("corpus", "output", **{field: -1})


def test_what_is_evaluated_must_be_there_and_whole(corpus, run, tmp_path):
    """Every fault explains itself: the job's one catch makes it a message."""
    whole = {"corpus": str(corpus), "output": str(tmp_path / "out"), "checkpoint": str(run), "captions": 1}
    (tmp_path / "empty").mkdir()
    (tmp_path / "codec.safetensors").write_bytes(b"no codec")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/manifest.jsonl").write_text("[]\n")
    faults = [
        {"corpus": str(tmp_path / "none")}, {"corpus": str(tmp_path / "empty")}, {"corpus": str(tmp_path / "bad")},
        {"split": "dev"}, {"checkpoint": str(tmp_path / "none")}, {"checkpoint": str(tmp_path / "empty")},
        {"sft_checkpoint": str(tmp_path / "none")}, {"codec": str(tmp_path / "none.safetensors")},
        {"codec": str(tmp_path / "codec.safetensors")}, {"codec": str(tmp_path)},
        {"tokenizer": str(tmp_path / "none.json")}, {"tokenizer": str(tmp_path / "codec.safetensors")},
    ]  # fmt: skip
    for fault in faults:
        with pytest.raises(Explained):
            evaluate(EvaluateConfig(**{**whole, **fault}))


def test_a_model_without_codec_refuses_audio():
    generator = Generator(Bagpiper(CONFIG, rngs=nnx.Rngs(0)), ByteTokenizer())
    with pytest.raises(GeneratorError, match="needs a codec"):
        generator.reply([[Message("user", "text", "rain")]], LoopConfig(modalities=("audio",)))


def test_a_begun_reply_is_text_and_holds_its_beginning():
    generator = Generator(Bagpiper(CONFIG, rngs=nnx.Rngs(0)), ByteTokenizer())
    asked = [[Message("user", "text", "rain?")]] * 2
    loop = dataclasses.replace(LOOP, modalities=("text",), max_segments=1)
    begun, free = generator.reply(asked, loop, begun=["Caption", ""])
    assert begun.text.startswith("Caption") and free == generator.reply(asked[:1], loop)[0]
    with pytest.raises(GeneratorError, match="needs text first"):
        generator.reply(asked, LOOP, begun=["Caption", ""])


def test_model_configuration_survives_json(tmp_path):
    config = dataclasses.replace(CONFIG, decoder=dataclasses.replace(CONFIG.decoder, rope_theta=10_000.0))
    save_model_config(tmp_path, config, tokenizer="byte", codec="codec.safetensors")
    assert load_model_config(tmp_path / "checkpoints" / "12") == (
        config, {"tokenizer": "byte", "codec": "codec.safetensors"}
    )  # fmt: skip


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda c: c["model"]["decoder"].update(layres=3), "no field layres"),
        (lambda c: c["model"]["decoder"].update(layers="3"), "layers needs int"),
        (lambda c: c.pop("model"), "model"),
    ],
)
def test_damaged_model_configuration_is_named(tmp_path, damage, message):
    path = save_model_config(tmp_path, CONFIG)
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ModelConfigError, match=message):
        load_model_config(tmp_path)


def test_a_directory_without_configuration_is_named(tmp_path):
    with pytest.raises(ModelConfigError, match="no config.json"):
        load_model_config(tmp_path)
