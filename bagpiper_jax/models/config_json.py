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
_TEXTS = ("tokenizer", "codec", "system_prompt", "stage")


class ModelConfigError(Explained, ValueError):
    """A stored configuration that is missing or doesn't fit this version; names the file and the remedy."""


def save_model_config(directory: str | os.PathLike, config: BagpiperConfig, **extras) -> Path:
    """Writes `<directory>/config.json` atomically.

    Args:
        directory: the checkpoint directory; made if it doesn't exist.
        config: the model's sizes.
        **extras: JSON values kept beside them; `tokenizer` and `codec`, paths inside the
            directory, are what generation reads.
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
        ModelConfigError: no file, no JSON, or a field that is missing, unknown or of another type.
    """
    path = find_model_config(directory)
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict) or "model" not in content:
            raise TypeError("it has no object with a model")
        for name in _TEXTS:
            if not isinstance(content.get(name), str | None):
                raise TypeError(f"{name} needs a text, got {content[name]!r:.60}")
        if not isinstance(content.get("digests", {}), dict):
            raise TypeError(f"digests needs an object, got {content['digests']!r:.60}")
        config = typed.from_json(BagpiperConfig, content.pop("model"))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ModelConfigError(
            f"{path} is no model configuration ({error}); train again or repair it"
        ) from error
    return config, content


def find_model_config(directory: str | os.PathLike) -> epath.Path:
    """The config.json of a run, an import or one of their steps. Raises ModelConfigError if there is none."""
    directory = epath.Path(directory)
    for candidate in (directory, *directory.resolve().parents[:2]):
        if (candidate / FILE).exists():
            return candidate / FILE
    raise ModelConfigError(f"{directory} holds no {FILE}; is it the directory of a training run?")
