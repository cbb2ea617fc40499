"""The card of an export: what it is, what opens it, and where its numbers come from."""

import json
import re
from pathlib import Path

from bagpiper_jax.interop.export_config import ExportConfig
from bagpiper_jax.interop.hub import snippets
from bagpiper_jax.models.configs import BagpiperConfig, CodecConfig
from bagpiper_jax.training.checkpoints import find_checkpoint

_TITLES = {
    "espnet": "Bagpiper, as ESPnet's native checkpoint",
    "vllm": "Bagpiper, for ESPnet's vLLM fork",
    "qwen3": "Decoder and head of a Bagpiper, as transformers' Qwen3ForCausalLM over the whole vocabulary",
    "tower": "Audio tower of a Bagpiper, as transformers' Qwen3OmniMoeAudioEncoder",
    "xcodec": "Codec of a Bagpiper, as transformers' XcodecModel",
    "peft": "LoRA adapter of a Bagpiper, as PEFT reads it",
}
_LIBRARIES = {"espnet": "espnet", "vllm": "vllm", "peft": "peft"}
_SIGNATURE = "Exported by bagpiper_jax."
_HUB_CACHE = re.compile(r"models--([\w.-]+?)--([\w.-]+)")


def is_ours(card: Path) -> bool:
    """Whether a file is a card that an export wrote."""
    return card.is_file() and _SIGNATURE in card.read_text(encoding="utf-8", errors="replace").splitlines()


def name_of(source: str) -> str:
    """What a card calls a checkpoint: its name on the hub if it lies in the hub's cache, else that of its file."""
    found = _HUB_CACHE.search(source)
    return f"{found[1]}/{found[2]}" if found else Path(source).resolve().name


def text(config: ExportConfig, model: BagpiperConfig, codec: CodecConfig | None, extras: dict) -> str:
    """The card in Markdown, with the front matter that model hubs read.

    Args:
        config: the export.
        model, codec: sizes; None where the export has no codec.
        extras: what is stored beside them in config.json.
    """
    step = Path(find_checkpoint(config.checkpoint))
    vocabulary = model.vocabulary
    rows = {
        "step": step.name if step.name.isdigit() else "an import, not trained here",
        "type": config.stored_dtype,
        "decoder": f"{model.decoder.layers} layers, width {model.decoder.width}",
        "vocabulary": f"256 specials, {vocabulary.text_size} text, {vocabulary.num_streams} streams of "
        f"{vocabulary.codebook_size} codes and a pad: {vocabulary.size} ids",
        **{name.replace("_", " "): json.dumps(value) for name, value in sorted(extras.items())},
    }
    provenance, data = _json(step / "provenance"), _json(step / "data")
    environment = provenance.get("environment", {})
    rows |= {name: environment[name] for name in ("commit", "device_kind", "devices") if name in environment}
    lines = [*_front_matter(config, extras), "", f"# {_TITLES[config.format]}", "", _SIGNATURE]
    lines += ["", "| | |", "|---|---|"]
    lines += [f"| {name} | {str(value).replace('|', '/')} |" for name, value in rows.items()]
    lines += ["", "## Open it", "", snippets.of(config.format, Path(config.output).name, codec)]
    if data:
        lines += ["", "## Data", "", "```json", json.dumps(data, indent=2, sort_keys=True), "```"]
    if provenance.get("gin"):
        lines += ["", "## Configuration", "", "```", provenance["gin"].strip(), "```"]
    return "\n".join(lines) + "\n"


def _front_matter(config: ExportConfig, extras: dict) -> list[str]:
    """YAML; JSON's texts and lists are YAML too."""
    imported = extras.get("imported_from")
    found = list(imported.values()) if isinstance(imported, dict) else []
    if config.format == "peft":
        found = [name_of(extras["adapter"]["base"])]
    bases = [config.base_model] if config.base_model else found
    fields = {
        "license": config.license,
        **({"base_model": bases} if bases else {}),
        "library_name": _LIBRARIES.get(config.format, "transformers"),
        "tags": ["audio", "bagpiper"],
    }
    return ["---", *(f"{name}: {json.dumps(value)}" for name, value in fields.items()), "---"]


def _json(item: Path) -> dict:
    """A JSON item of a checkpoint, empty where there is none."""
    file = item / "metadata"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
