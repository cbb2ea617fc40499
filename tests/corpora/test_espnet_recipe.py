"""ESPnet's training YAML becomes gin that the train job accepts; what has no equal is named, nothing is guessed."""

import json

import pytest

from bagpiper_jax import configuration
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.espnet import inference, recipe
from bagpiper_jax.jobs.generate import GenerateConfig
from bagpiper_jax.training.config import TrainConfig

IO = """
multimodal_io:
    text: {tokenizer_name: Qwen/Qwen3-8B-Base}
    discrete_audio:
        codec_choice: Xcodec
        codec_hf_model_tag: hf-audio/xcodec-hubert-general
        ssl_choice: null
        delay_interleave: true
        stream_weights: [0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125]
    continuous_audio: {encoder_choice: huggingface, attn_implementation: flash_attention_3, dtype: bfloat16}
model:
    model_choice: parallel
    model_hf_tag: Qwen/Qwen3-8B-Base
    model_conf: {attn_implementation: flash_attention_3, dtype: bfloat16}
preprocessor: {audio_input: continuous_audio, audio_output: discrete_audio, loss_region: assistant, audio_cfg: 0.1}
"""
TITAN = f"""
job_type: speechlm
seed: 42
{IO}
data_loading: {{batchfy_method: pack, batch_size: 8192, num_workers: 6}}
trainer:
    type: titan
    freeze_param: [multimodal_io_dict.discrete_audio, multimodal_io_dict.continuous_audio, model.layers]
    max_step: 10000
    save_interval: 500
    log_interval: 1
    gradient_accumulation_steps: 4
    optimizer: {{name: AdamW, lr: 5.0e-4, beta1: 0.9, beta2: 0.95, eps: 1.0e-8, weight_decay: 3.0e-7}}
    lr_scheduler: {{warmup_steps: 100, decay_end_step: 9000, min_lr_ratio: 1.0}}
    titan_config: {{parallel_strategy: qwen3, gradient_clipping: 2.0, compile: false, dp_shard: -1, pp_degree: 1}}
"""
DEEPSPEED = f"""
job_type: speechlm
{IO.replace("dtype: bfloat16}", "dtype: bfloat16, compile_transformer_body: false, freeze_text_embeddings: true}", 2)}
data_loading: {{batchfy_method: pack, batch_size: 15000, save_loader_state: false, seed: 43}}
trainer:
    deepspeed_config: conf/deepspeed.json
    freeze_param: [multimodal_io_dict.continuous_audio, multimodal_io_dict.discrete_audio]
    max_step: 700000
    save_interval: 5000
"""
ADAM = {
    "gradient_clipping": 1.0,
    "gradient_accumulation_steps": 1,
    "optimizer": {"params": {"lr": 1e-5, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 3e-7}},
    "scheduler": {"params": {"total_num_steps": 600000, "warmup_num_steps": 350000, "cos_min_ratio": 1.0}},
}


def write(tmp_path, text: str):
    (tmp_path / "train.yaml").write_text(text)
    return tmp_path / "train.yaml"


def trained(tmp_path, text: str, gpus: int = 8) -> TrainConfig:
    """What the train job makes of the converted recipe."""
    gin = tmp_path / "run.gin"
    gin.write_text(recipe.convert(write(tmp_path, text), tmp_path, gpus, "espnet"))
    return configuration.load(TrainConfig, [f"--gin_file={gin}"])


def test_a_titan_recipe_is_the_same_run(tmp_path):
    run = trained(tmp_path, TITAN)
    assert (run.stage, run.steps, run.save_every, run.validate_every, run.seed) == (
        "warmup",
        10_000,
        500,
        500,
        42,
    )
    assert (run.batch.rows, run.batch.slots, run.accumulation, run.cfg_dropout) == (32, 8192, 4, 0.1)
    assert run.batch.chunks * 13 >= run.batch.slots
    o = run.optimizer
    assert (o.peak_rate, o.warmup_steps, o.decay_end, o.min_ratio, o.clip) == (5e-4, 100, 9000, 1.0, 2.0)
    assert (o.beta1, o.beta2, o.epsilon, o.weight_decay) == (0.9, 0.95, 1e-8, 3e-7)
    assert run.model.decoder.layers == 36 and run.model.vocabulary.size == 160_392
    assert run.train_lock == "cache/espnet_pretraining.lock.json"


def test_the_class_weight_is_not_applied_twice(tmp_path):
    """The YAML's 0.125 is a mask in the released loss, whose class weights hold the same number."""
    assert trained(tmp_path, TITAN).render.stream_weights == (1.0,) * 8
    muted = TITAN.replace("[0.125, 0.125,", "[0.125, 0,")
    assert trained(tmp_path, muted).render.stream_weights == (1.0, 0.0, *(1.0,) * 6)


def test_a_deepspeed_recipe_reads_its_json_and_names_dead_keys(tmp_path, caplog):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "deepspeed.json").write_text(json.dumps(ADAM))
    run = trained(tmp_path, DEEPSPEED)
    assert (run.stage, run.seed, run.batch.rows, run.batch.slots) == ("pretrain", 43, 8, 15_000)
    assert (run.optimizer.peak_rate, run.optimizer.warmup_steps, run.optimizer.min_ratio) == (
        1e-5,
        350_000,
        1.0,
    )
    (dead,) = (r.getMessage() for r in caplog.records if "no released code reads" in r.getMessage())
    for key in ("model.model_conf.compile_transformer_body", "model.model_conf.freeze_text_embeddings"):
        assert key in dead
    assert "multimodal_io.text.tokenizer_name" in caplog.text


def test_a_resumed_counter_is_past_its_warmup(tmp_path, caplog):
    (tmp_path / "conf").mkdir()
    content = {**ADAM, "checkpoint": {"load_universal": True}}
    (tmp_path / "conf" / "deepspeed.json").write_text(json.dumps(content))
    assert trained(tmp_path, DEEPSPEED).optimizer.warmup_steps == 0
    assert "continues another run's step counter" in caplog.text


def test_a_missing_deepspeed_file_is_told(tmp_path, caplog):
    assert trained(tmp_path, DEEPSPEED).optimizer.peak_rate == 1e-4
    assert "deepspeed.json does not exist: OptimizerConfig keeps its defaults" in caplog.text


def test_another_vocabulary_order_is_refused(tmp_path):
    """The order that gave a cross-entropy of 55.7."""
    text, audio = TITAN.index("    text:"), TITAN.index("    discrete_audio:")
    end = TITAN.index("    continuous_audio:")
    swapped = TITAN[:text] + TITAN[audio:end] + TITAN[text:audio] + TITAN[end:]
    with pytest.raises(
        CorpusError, match="lists discrete_audio, text: in ESPnet its order decides the ids(.|\n)*55.7"
    ):
        trained(tmp_path, swapped)


FAULTS = {
    "sees_unknown": ("seed: 42", "seed: 42\nlearning: 3", "unknown key learning = 3"),
    "codec": (
        "codec_choice: Xcodec",
        "codec_choice: Mimi",
        "codec_choice is 'Mimi'; only 'Xcodec' has an equal",
    ),
    "moe": (
        "model_hf_tag: Qwen/Qwen3-8B-Base",
        "model_hf_tag: Qwen/Qwen3-30B-A3B",
        "only 'Qwen/Qwen3-8B-Base' or",
    ),
    "bucket": ("batchfy_method: pack", "batchfy_method: bucket", "batchfy_method is 'bucket'"),
    "frozen": (", model.layers]", ", lm_head]", "freeze_param .*lm_head.* is that of no stage"),
    "weights": ("stream_weights: [0.125,", "stream_weights: [", "is no list of eight numbers"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_has_no_equal_is_refused(tmp_path, fault):
    old, new, message = FAULTS[fault]
    assert old in TITAN
    with pytest.raises(CorpusError, match=message):
        trained(tmp_path, TITAN.replace(old, new))


def test_all_faults_come_at_once(tmp_path):
    spoiled = TITAN.replace("pack", "bucket").replace("Xcodec", "Mimi").replace("seed: 42", "sead: 42")
    with pytest.raises(
        CorpusError, match="cannot be converted:\n(.|\n)*Mimi(.|\n)*bucket(.|\n)*unknown key sead"
    ):
        trained(tmp_path, spoiled)


def test_keys_that_are_missing_are_named(tmp_path, caplog):
    trained(tmp_path, TITAN.replace(", decay_end_step: 9000, min_lr_ratio: 1.0", ""))
    assert "says nothing of OptimizerConfig.decay_end, OptimizerConfig.min_ratio: our defaults" in caplog.text
    caplog.clear()
    trained(tmp_path, TITAN)
    assert "our defaults" not in caplog.text


INFERENCE = """
dtype: bfloat16
num_hypo: 1
enforce_modality: ["text", "audio"]
audio: {temperature: 0.7, topk: 30, cfg: 3, max_step: 1024, min_step: 40}
text: {temperature: 0.6, topk: 20, cfg: 1, max_step: 4096, min_step: 1}
"""


def test_an_inference_yaml_is_the_same_sampling(tmp_path):
    gin = tmp_path / "generate.gin"
    gin.write_text(inference.convert(write(tmp_path, INFERENCE)))
    loop = configuration.load(GenerateConfig, [f"--gin_file={gin}", "--gin.GenerateConfig.checkpoint=x"]).loop
    assert loop.modalities == ("text", "audio")
    a, t = loop.audio, loop.text
    assert (a.temperature, a.top_k, a.guidance, a.max_steps, a.min_steps) == (0.7, 30, 3, 1024, 40)
    assert (t.temperature, t.top_k, t.guidance, t.max_steps, t.min_steps) == (0.6, 20, 1, 4096, 1)


def test_inference_that_has_no_equal_is_refused(tmp_path):
    spoiled = INFERENCE.replace("num_hypo: 1", "num_hypo: 4\nbeam: 2").replace("topk: 30", "top_p: 0.9")
    with pytest.raises(CorpusError, match="num_hypo is 4(.|\n)*audio.top_p(.|\n)*unknown key beam"):
        inference.convert(write(tmp_path, spoiled.replace('"text", "audio"', '"text"')))
    with pytest.raises(CorpusError, match="enforce_modality .*video"):
        inference.convert(write(tmp_path, INFERENCE.replace('"audio"]', '"video"]')))


def test_yaml_runs_nothing(tmp_path):
    with pytest.raises(CorpusError, match="no readable YAML"):
        trained(tmp_path, "seed: !!python/object/apply:os.system ['touch pwned']")
    with pytest.raises(CorpusError, match="holds a list, not a mapping"):
        trained(tmp_path, "- 1")
