"""The card of an export: what it is, and where its numbers come from."""

import json
import os
from pathlib import Path

from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.training.checkpoints import find_checkpoint

_TITLES = {
    "espnet": "Bagpiper, as ESPnet's native checkpoint",
    "vllm": "Bagpiper, for ESPnet's vLLM fork",
    "qwen3": "Decoder and head of a Bagpiper, as transformers' Qwen3ForCausalLM over the whole vocabulary",
    "tower": "Audio tower of a Bagpiper, as transformers' Qwen3OmniMoeAudioEncoder",
    "xcodec": "Codec of a Bagpiper, as transformers' XcodecModel",
}


def text(format: str, checkpoint: str | os.PathLike, dtype: str, model: BagpiperConfig, extras: dict) -> str:
    """The card in Markdown.

    Args:
        format, dtype: of the export.
        checkpoint: what was exported.
        model: its sizes.
        extras: what is stored beside them in config.json.
    """
    step = Path(find_checkpoint(checkpoint))
    vocabulary = model.vocabulary
    rows = {
        "step": step.name if step.name.isdigit() else "an import, not trained here",
        "type": dtype,
        "decoder": f"{model.decoder.layers} layers, width {model.decoder.width}",
        "vocabulary": f"256 specials, {vocabulary.text_size} text, {vocabulary.num_streams} streams of "
        f"{vocabulary.codebook_size} codes and a pad: {vocabulary.size} ids",
        **{name.replace("_", " "): json.dumps(value) for name, value in sorted(extras.items())},
    }
    provenance, data = _json(step / "provenance"), _json(step / "data")
    environment = provenance.get("environment", {})
    rows |= {name: environment[name] for name in ("commit", "device_kind", "devices") if name in environment}
    lines = [f"# {_TITLES[format]}", "", "Exported by bagpiper_jax.", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {str(value).replace('|', '/')} |" for name, value in rows.items()]
    if data:
        lines += ["", "## Data", "", "```json", json.dumps(data, indent=2, sort_keys=True), "```"]
    if provenance.get("gin"):
        lines += ["", "## Configuration", "", "```", provenance["gin"].strip(), "```"]
    return "\n".join(lines) + "\n"


def _json(item: Path) -> dict:
    """A JSON item of a checkpoint, empty where there is none."""
    file = item / "metadata"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
