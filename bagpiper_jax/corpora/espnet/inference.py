"""ESPnet's inference YAML → gin for our generate job (docs/reference.md, Sampling settings)."""

import logging
from pathlib import Path

from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.espnet.specifiers import read_yaml

_log = logging.getLogger(__name__)

SAMPLING = {
    "temperature": "temperature", "topk": "top_k", "cfg": "guidance", "max_step": "max_steps", "min_step": "min_steps",
}  # fmt: skip
_CLASSES = {"text": "TextSampling", "audio": "AudioSampling"}


def convert(path: str | Path) -> str:
    """The text of a gin file for `generate`.

    Raises:
        CorpusError: unknown keys, several hypotheses, or other modalities than text and audio.
    """
    content = read_yaml(path)
    modalities = content.pop("enforce_modality", None) or []
    faults = [f"num_hypo is {n}; one is generated here" for n in [content.pop("num_hypo", 1)] if n != 1]
    if not isinstance(modalities, list) or not set(modalities) <= set(_CLASSES):
        faults.append(f"enforce_modality {modalities!r} is no list of text and audio")
    if "dtype" in content:
        _log.warning("%s: dtype %s is that of the checkpoint's config.json here", path, content.pop("dtype"))
    bindings = []
    for modality, cls in _CLASSES.items():
        given = content.pop(modality, None) or {}
        faults += [f"unknown key {modality}.{key}" for key in given if key not in SAMPLING]
        bindings += [f"{cls}.{ours} = {given[key]!r}" for key, ours in SAMPLING.items() if key in given]
    faults += [f"unknown key {key}" for key in content]
    if faults:
        raise CorpusError(f"{path} cannot be converted:\n  " + "\n  ".join(faults))
    return "\n".join([
        f"# Converted from {Path(path).name}.",
        "GenerateConfig.loop = @LoopConfig()",
        f"LoopConfig.modalities = {tuple(modalities)!r}",
        *(f"LoopConfig.{modality} = @{cls}()" for modality, cls in _CLASSES.items()),
        "",
        *bindings,
    ]) + "\n"  # fmt: skip
