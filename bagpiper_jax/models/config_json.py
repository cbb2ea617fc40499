"""The model configuration as JSON, stored beside a checkpoint so that generation needs nothing but its path."""

import dataclasses
import json
import os
from pathlib import Path

from etils import epath

from bagpiper_jax import files, typed
from bagpiper_jax.errors import Explained
from bagpiper_jax.models.configs import BagpiperConfig

FILE = "config.json"


class ModelConfigError(Explained, ValueError):
    """A stored configuration that is missing or doesn't fit this version; names the file and the remedy."""


def save_model_config(directory: str | os.PathLike, config: BagpiperConfig, **extras) -> Path:
    """Writes `<directory>/config.json` atomically.

    Args:
        directory: the checkpoint directory; made if it doesn't exist.
        config: the model's sizes.
        **extras: JSON values kept beside them; `tokenizer` and `codec` (paths or specs) are what generation reads.
    """
    path = Path(directory) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"model": dataclasses.asdict(config), **extras}
    files.replace(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
    return path


def load_model_config(directory: str | os.PathLike) -> tuple[BagpiperConfig, dict]:
    """Reads what `save_model_config` wrote: the configuration and the extras.

    Looks in `directory` and, so that one step of a run may be named, in its parents up to two levels.

    Raises:
        ModelConfigError: no file, broken JSON, or fields that `BagpiperConfig` doesn't have.
    """
    path = _find(epath.Path(directory))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        config = typed.from_json(BagpiperConfig, content.pop("model"))
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ModelConfigError(
            f"{path} is no model configuration ({error}); train again or repair it"
        ) from error
    return config, content


def _find(directory: epath.Path) -> epath.Path:
    for candidate in (directory, *directory.resolve().parents[:2]):
        if (candidate / FILE).exists():
            return candidate / FILE
    raise ModelConfigError(f"{directory} holds no {FILE}; is it the directory of a training run?")
