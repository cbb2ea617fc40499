"""What a run was made with: gin, versions, commit, devices. Kept in the run's directory and in every checkpoint."""

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jax

from bagpiper_jax.runs import compiler_flags

_PACKAGES = ("bagpiper_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "grain", "libtpu")


def environment() -> dict:
    """Versions, commit and devices, JSON-able."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "commit": _commit(),
        "arguments": sys.argv[1:],
        "processes": jax.process_count(),
        "devices": jax.device_count(),
        "device_kind": jax.devices()[0].device_kind,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "libtpu_flags": os.environ.get(compiler_flags.VARIABLE, ""),
    }


def record(output: Path, operative_config: str, start: int) -> dict:
    """Writes `operative.gin`, adds a line to `environment.jsonl`, and returns both for the checkpoints."""
    described = environment()
    if jax.process_index() == 0:
        output.mkdir(parents=True, exist_ok=True)
        (output / "operative.gin").write_text(operative_config, encoding="utf-8")
        with open(output / "environment.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"from_step": start, **described}) + "\n")
    return {"gin": operative_config, "environment": described}


def record_program(output: Path, traced: jax.stages.Traced, compiled: jax.stages.Compiled) -> None:
    """Keeps the train step as `step.jaxpr.txt`, and as `step.hlo.txt` what the compiler made of it for one device."""
    for name, text in (("jaxpr", str(traced.jaxpr)), ("hlo", compiled.as_text() or "")):
        (output / f"step.{name}.txt").write_text(text, encoding="utf-8")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The source's commit, "+" if files differ from it; None outside a clone."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
