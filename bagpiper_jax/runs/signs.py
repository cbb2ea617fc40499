"""Signs of life: each process of a run rewrites `hosts/<process>.json` in the run's output, which all hosts see."""

import json

from etils import epath

DIRECTORY = "hosts"


def sign_path(output: epath.Path, process: int) -> epath.Path:
    """Where a process of the run in `output` leaves its sign of life."""
    return output / DIRECTORY / f"{process}.json"


def write_sign(path: epath.Path, sign: dict) -> None:
    """Replaces a sign of life; who reads meanwhile finds the old one or the new one."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(sign))
    temporary.replace(path)


def read_sign(path: epath.Path) -> dict:
    """The sign of life at `path`; {} if there is none, or it does not say of what time it is."""
    try:
        sign = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return sign if isinstance(sign, dict) and isinstance(sign.get("time"), int | float) else {}
