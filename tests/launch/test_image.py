"""The image of a pod's host: its versions are those that setup.py allows, its context is what a job needs."""

import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from places import REPOSITORY

IMAGE = REPOSITORY / "launch/image"
ENVIRONMENT = {
    "python_version": "3.12", "python_full_version": "3.12.0", "sys_platform": "linux", "platform_machine": "x86_64",
    "platform_system": "Linux", "implementation_name": "cpython", "os_name": "posix",
}  # fmt: skip


@pytest.fixture(scope="module")
def wanted(tmp_path_factory) -> list[Requirement]:
    """What the package asks for, as its own metadata says."""
    out = tmp_path_factory.mktemp("metadata")
    command = [sys.executable, "setup.py", "-q", "egg_info", f"--egg-base={out}"]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    from importlib.metadata import Distribution

    (metadata,) = out.glob("*.egg-info")
    return [Requirement(line) for line in Distribution.at(metadata).requires or ()]


@pytest.mark.parametrize("accelerator", ["tpu", "gpu", "cpu"])
def test_locked_versions_are_those_that_setup_allows(wanted, accelerator):
    locked = dict(line.split("==") for line in (IMAGE / f"{accelerator}.lock").read_text().split())
    extras = {"serve", accelerator}
    for requirement in wanted:
        marker = requirement.marker
        if marker and not any(marker.evaluate(ENVIRONMENT | {"extra": extra}) for extra in extras):
            continue
        assert canonicalize_name(requirement.name) in locked, f"run launch/image/lock.sh: {requirement}"
        assert locked[canonicalize_name(requirement.name)] in requirement.specifier, (
            f"run launch/image/lock.sh: {requirement}"
        )


def test_the_context_is_what_an_image_needs_and_no_more():
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert lines[1] == "*" and all((REPOSITORY / name).exists() for name in kept)
    copied = set(re.findall(r"^COPY (launch/\S+)", (IMAGE / "Dockerfile").read_text(), re.M))
    assert copied == {"launch/image/${ACCELERATOR}.lock"}
    size = sum(
        path.stat().st_size for name in kept for path in (REPOSITORY / name).rglob("*") if path.is_file()
    )
    assert size < 40e6, "a context that takes long to send"
