"""adapter_config.json: what PEFT is told of an adapter, and what it tells."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bagpiper_jax.interop.faults import InterchangeError, shown
from bagpiper_jax.interop.formats.tensors import read_object
from bagpiper_jax.models.adapters.lora import scale_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FINGERPRINT = "base_fingerprint"
"""In the metadata of the weights: what `models.fingerprints` says of the base."""

_PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "modules_to_save": None,
    "use_dora": False,
    "layers_to_transform": None,
    "layers_pattern": None,
}


@dataclasses.dataclass(frozen=True)
class PeftConfig:
    """How PEFT scales the changes of an adapter, and which there are.

    Attributes:
        rank, alpha: of every module that no pattern names.
        rank_stabilised: whether a change is scaled by alpha / √rank.
        dropout: what it was trained with.
        ranks, alphas: pattern of a module's name → its own rank or alpha.
    """

    rank: int
    alpha: float
    rank_stabilised: bool = False
    dropout: float = 0.0
    ranks: Mapping[str, int] = dataclasses.field(default_factory=dict)
    alphas: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def rank_of(self, module: str) -> int:
        return self.ranks.get(_key(self.ranks, module), self.rank)

    def scale_of(self, module: str) -> float:
        """What the change of a module is multiplied by."""
        alpha = self.alphas.get(_key(self.alphas, module), self.alpha)
        return scale_of(self.rank_of(module), alpha, self.rank_stabilised)


def _key(patterns: Iterable[str], module: str) -> str:
    """The first pattern that is the module's name or an end of it, as PEFT chooses it."""
    return next((pattern for pattern in patterns if re.match(rf"(.*\.)?({pattern})$", module)), "")


def content(config: PeftConfig, modules: Iterable[str], base: str, anchored: bool) -> dict[str, Any]:
    """The object in adapter_config.json.

    Args:
        config: of the adapter.
        modules: the names of all modules that it changes.
        base: what the base is called.
        anchored: names the modules whole, by a pattern, so that those of an audio tower that end alike stay as they
            are; else by their last names, which every server reads.
    """
    # Layers differ by their number alone.
    names = sorted({re.sub(r"\.\d+\.", ".N.", name) for name in modules})
    pattern = "|".join(re.escape(name).replace(r"\.N\.", r"\.\d+\.") for name in names)
    ends = sorted({name.rpartition(".")[2] for name in names})
    return _PLAIN | {
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilised,
        "rank_pattern": dict(config.ranks),
        "alpha_pattern": dict(config.alphas),
        "target_modules": pattern if anchored else ends,
    }


def read(directory: Path) -> PeftConfig:
    """The adapter_config.json of a directory. Raises InterchangeError: there is none, or it describes no plain LoRA."""
    path = directory / CONFIG
    found = read_object(path, "configuration of a PEFT adapter")
    if found.get("peft_type") != "LORA":
        raise InterchangeError(f"{path}: peft_type is {shown(found.get('peft_type'))}; only LORA can be read")
    for name in (
        "use_dora",
        "fan_in_fan_out",
        "use_qalora",
        "alora_invocation_tokens",
        "trainable_token_indices",
    ):
        if found.get(name):
            raise InterchangeError(f"{path}: {name} is {shown(found[name])}; only plain LoRA can be read")
    if found.get("bias", "none") != "none":
        raise InterchangeError(
            f"{path}: it trained biases, which the model has not; train it with bias 'none'"
        )
    if found.get("modules_to_save"):
        raise InterchangeError(
            f"{path}: it holds whole modules beside its changes, such as a full head "
            f"({shown(found['modules_to_save'])}); train it without modules_to_save, or import the merged model"
        )
    try:
        return PeftConfig(
            rank=_number(found["r"], int),
            alpha=_number(found["lora_alpha"], int | float),
            rank_stabilised=bool(found.get("use_rslora", False)),
            dropout=float(_number(found.get("lora_dropout", 0.0), int | float)),
            ranks={name: _number(x, int) for name, x in (found.get("rank_pattern") or {}).items()},
            alphas={name: _number(x, int | float) for name, x in (found.get("alpha_pattern") or {}).items()},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InterchangeError(f"{path} is no configuration of a LoRA: {error!r}") from error


def _number(value: Any, kind: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, kind) or value < 0:
        raise TypeError(f"{value!r} is no number that it could be")
    if kind is int and value < 1:
        raise ValueError(f"a rank of {value}")
    return value
