"""ESPnet's training YAML → gin for our train job (docs/reference.md, Training stages and Dead YAML keys).

Every key is converted, required to have the one value that our design has, or named in a warning because nothing here
depends on it. An unknown key is a fault: it might change the numbers.
"""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path

from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.espnet.specifiers import read_yaml

_log = logging.getLogger(__name__)

MODELS = {"Qwen/Qwen3-8B-Base": "gin/models/8b.gin", "Qwen/Qwen3-8B": "gin/models/8b.gin"}

COPIED = {
    "seed": ("TrainConfig.seed",),
    "data_loading.seed": ("TrainConfig.seed",),
    "data_loading.batch_size": ("BatchShape.slots",),
    "preprocessor.loss_region": ("RenderConfig.loss_region",),
    "preprocessor.audio_cfg": ("TrainConfig.cfg_dropout",),
    "model.model_conf.dtype": ("DecoderConfig.dtype",),
    "model.model_conf.z_loss_weight": ("LossConfig.z_loss",),
    "multimodal_io.continuous_audio.dtype": ("AudioTowerConfig.dtype",),
    "trainer.max_step": ("TrainConfig.steps",),
    "trainer.save_interval": ("TrainConfig.save_every", "TrainConfig.validate_every"),
    "trainer.log_interval": ("TrainConfig.log_every",),
    "trainer.gradient_accumulation_steps": ("TrainConfig.accumulation",),
    "trainer.optimizer.lr": ("OptimizerConfig.peak_rate",),
    "trainer.optimizer.beta1": ("OptimizerConfig.beta1",),
    "trainer.optimizer.beta2": ("OptimizerConfig.beta2",),
    "trainer.optimizer.eps": ("OptimizerConfig.epsilon",),
    "trainer.optimizer.weight_decay": ("OptimizerConfig.weight_decay",),
    "trainer.lr_scheduler.warmup_steps": ("OptimizerConfig.warmup_steps",),
    "trainer.lr_scheduler.decay_end_step": ("OptimizerConfig.decay_end",),
    "trainer.lr_scheduler.min_lr_ratio": ("OptimizerConfig.min_ratio",),
    "trainer.titan_config.gradient_clipping": ("OptimizerConfig.clip",),
}
REQUIRED = {
    "job_type": ("speechlm",),
    "multimodal_io.discrete_audio.codec_choice": ("Xcodec",),
    "multimodal_io.discrete_audio.ssl_choice": (None,),
    "multimodal_io.discrete_audio.ssl_hf_model_tag": (None,),
    "multimodal_io.discrete_audio.delay_interleave": (True,),
    "multimodal_io.continuous_audio.encoder_choice": ("huggingface",),
    "model.model_choice": ("parallel",),
    "model.model_hf_tag": tuple(MODELS),
    "preprocessor.audio_input": ("continuous_audio",),
    "preprocessor.audio_output": ("discrete_audio",),
    "data_loading.batchfy_method": ("pack",),
    "trainer.type": ("titan", "deepspeed"),
    "trainer.optimizer.name": ("AdamW",),
    "trainer.lr_scheduler.decay_type": ("cosine",),
    "trainer.titan_config.parallel_strategy": ("qwen3",),
}
DEAD = ("compile_transformer_body", "freeze_text_embeddings", "activation_checkpointing")
"""Keys that the released YAMLs carry and no released code reads (docs/reference.md, Dead YAML keys)."""
ELSEWHERE = (
    "tokenizer_name", "codec_hf_model_tag", "encoder_hf_model_tag", "attn_implementation", "save_loader_state",
    "num_workers", "mixed_precision_param", "mixed_precision_reduce", "optimizer_storage_dtype",
    "activation_checkpoint", "compile", "reshard_after_forward", "dp_shard", "dp_replicate", "pp_degree", "ep",
)  # fmt: skip
"""Keys about files, kernels and hardware, which change no number here."""
OPTIONAL = ("LossConfig.z_loss", "TrainConfig.accumulation", "TrainConfig.log_every")
"""What ESPnet leaves at the values that are ours too."""
SPECIAL = ("multimodal_io.discrete_audio.stream_weights", "trainer.freeze_param", "trainer.deepspeed_config")

_FROZEN = {"multimodal_io_dict.discrete_audio", "multimodal_io_dict.continuous_audio"}


def convert(path: str | Path, root: Path, gpus: int, corpus: str) -> str:
    """The text of a gin file for `train`.

    Args:
        path: the YAML; read by the safe loader.
        root: what `deepspeed_config` is relative to.
        gpus: rows per micro-batch.
        corpus: prefix of the mixtures' names.

    Raises:
        CorpusError: unknown keys, values without an equal here, or discrete IOs in another order than text, codec,
            which lays out the ids differently (docs/reference.md, Token layout). All faults are named at once.
    """
    content = read_yaml(path)
    flat = _flatten(content)
    faults = [*_order_faults(content), *_value_faults(flat)]
    bindings = {name: flat[key] for key, names in COPIED.items() if key in flat for name in names}
    if "trainer.deepspeed_config" in flat:
        bindings |= _deepspeed(root / str(flat["trainer.deepspeed_config"]))
    bindings["TrainConfig.stage"] = _stage(flat.get("trainer.freeze_param"), faults)
    bindings["RenderConfig.stream_weights"] = _stream_weights(flat, faults)
    if faults:
        raise CorpusError(f"{path} cannot be converted:\n  " + "\n  ".join(faults))
    _warn(path, flat, bindings)
    slots, accumulation = bindings.get("BatchShape.slots", 8192), bindings.get("TrainConfig.accumulation", 1)
    bindings |= {"BatchShape.rows": gpus * accumulation, "BatchShape.slots": slots}
    bindings["BatchShape.chunks"] = math.ceil(slots / 13)  # 13 slots per chunk of audio
    bindings.setdefault("OptimizerConfig.decay_end", bindings.get("TrainConfig.steps", 600_000))
    return _text(Path(path).name, flat, bindings, corpus)


def _flatten(value: Mapping, prefix: str = "") -> dict[str, object]:
    flat = {}
    for key, inner in value.items():
        name = f"{prefix}{key}"
        flat |= _flatten(inner, f"{name}.") if isinstance(inner, Mapping) else {name: inner}
    return flat


def _order_faults(content: Mapping) -> list[str]:
    ios = content.get("multimodal_io")
    found = [name for name in ios if name != "continuous_audio"] if isinstance(ios, Mapping) else []
    if found == ["text", "discrete_audio"]:
        return []
    return [
        f"multimodal_io lists {', '.join(found) or 'nothing'}: in ESPnet its order decides the ids, here they are "
        "specials, text, discrete_audio. A checkpoint trained with another order has other rows in embedding and "
        "head (a cross-entropy of 55.7 instead of 2.1); for a new run, put text before discrete_audio"
    ]


def _value_faults(flat: Mapping[str, object]) -> list[str]:
    wrong = [
        f"{key} is {flat[key]!r}; only {' or '.join(map(repr, known))} has an equal here"
        for key, known in REQUIRED.items()
        if key in flat and flat[key] not in known
    ]
    known = {*COPIED, *REQUIRED, *SPECIAL}
    strange = [key for key in flat if key not in known and key.split(".")[-1] not in (*DEAD, *ELSEWHERE)]
    return [*wrong, *(f"unknown key {key} = {flat[key]!r}" for key in strange)]


def _stage(frozen: object, faults: list[str]) -> str:
    names = set(frozen) if isinstance(frozen, list) else set()
    stage = {frozenset(_FROZEN): "pretrain", frozenset(_FROZEN | {"model.layers"}): "warmup"}.get(
        frozenset(names)
    )
    if stage is None:
        faults.append(f"trainer.freeze_param {sorted(names)} is that of no stage (training.partition.STAGES)")
    return stage or ""


def _stream_weights(flat: Mapping[str, object], faults: list[str]) -> tuple[float, ...]:
    """The released loss only asks whether a weight is zero; 0.125 comes once, from the class weights.

    See docs/reference.md, Loss.
    """
    weights = flat.get("multimodal_io.discrete_audio.stream_weights", [1.0] * 8)
    if (
        not isinstance(weights, list)
        or len(weights) != 8
        or not all(isinstance(w, int | float) for w in weights)
    ):
        faults.append(f"multimodal_io.discrete_audio.stream_weights {weights!r} is no list of eight numbers")
        return ()
    return tuple(float(weight != 0) for weight in weights)


def _deepspeed(path: Path) -> dict[str, object]:
    """Optimizer and schedule of a DeepSpeed JSON; without the file a warning, as one of the release's is not public."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        optimizer, schedule = content["optimizer"]["params"], content["scheduler"]["params"]
        found = {
            "OptimizerConfig.peak_rate": optimizer["lr"],
            "OptimizerConfig.beta1": optimizer["betas"][0],
            "OptimizerConfig.beta2": optimizer["betas"][1],
            "OptimizerConfig.epsilon": optimizer["eps"],
            "OptimizerConfig.weight_decay": optimizer["weight_decay"],
            "OptimizerConfig.warmup_steps": schedule["warmup_num_steps"],
            "OptimizerConfig.decay_end": schedule["total_num_steps"],
            "OptimizerConfig.min_ratio": schedule["cos_min_ratio"],
            "OptimizerConfig.clip": content["gradient_clipping"],
            "TrainConfig.accumulation": content["gradient_accumulation_steps"],
        }
    except OSError:
        _log.warning("%s does not exist: OptimizerConfig keeps its defaults, those of pre-training", path)
        return {}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise CorpusError(
            f"{path} is no DeepSpeed configuration with Adam and WarmupCosineLR: {error!r}"
        ) from error
    if content.get("checkpoint", {}).get("load_universal"):
        _log.warning(
            "%s continues another run's step counter, past its warm-up: warmup_steps is 0 here", path
        )
        found["OptimizerConfig.warmup_steps"] = 0
    return found


def _warn(path: str | Path, flat: Mapping[str, object], bindings: Mapping[str, object]) -> None:
    dead = [key for key in flat if key.split(".")[-1] in DEAD]
    if dead:
        _log.warning("%s: no released code reads %s; ignored", path, ", ".join(dead))
    elsewhere = [key for key in flat if key.split(".")[-1] in ELSEWHERE and key not in dead]
    if elsewhere:
        _log.warning("%s: no equal here, numbers do not depend on it: %s", path, ", ".join(elsewhere))
    absent = [
        name for names in COPIED.values() for name in names if name not in bindings and name not in OPTIONAL
    ]
    if absent:
        _log.warning("%s says nothing of %s: our defaults", path, ", ".join(dict.fromkeys(absent)))


def _text(name: str, flat: Mapping, bindings: Mapping[str, object], corpus: str) -> str:
    model = MODELS[flat.get("model.model_hf_tag", "Qwen/Qwen3-8B-Base")]
    lock = f"cache/{corpus}_pretraining.lock.json"  # _sft for tuning; the recipes don't tell which they are
    lines = [
        f"# Converted from {name}. Give --gin.TrainConfig.init_from, .tokenizer and .codec.",
        f"include {model!r}",
        "",
        f"TrainConfig.output = 'runs/{corpus}'",
        f"TrainConfig.train_lock = {lock!r}",
        f"TrainConfig.validation_lock = {lock!r}",
        *(f"TrainConfig.{field} = @{cls}()" for field, cls in _PARTS.items()),
        "",
        *(f"{key} = {value!r}" for key, value in sorted(bindings.items())),
    ]
    return "\n".join(lines) + "\n"


_PARTS = {
    "model": "BagpiperConfig", "batch": "BatchShape", "optimizer": "OptimizerConfig", "loss": "LossConfig",
    "render": "RenderConfig",
}  # fmt: skip
