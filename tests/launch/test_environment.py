"""Making an environment takes minutes in which pip and uv say nothing; the script does."""

import subprocess

import pytest
from launching import LAUNCH

# `sleep` returns at once, and what is installed ends when it reads that it is at work.
SCRIPT = """
set -euo pipefail
eval "$(sed -n '/^patiently()/,/^}/p' "$1")"
sleep() { :; }
work='until grep -q "  installing …" said; do :; done; exit "$0"'
patiently "installing" bash -c "$work" "$2" > said || echo "code $?"
jobs -r
"""


@pytest.mark.parametrize("code, said", [("0", ""), ("3", "code 3\n")])
def test_what_is_silent_for_long_is_said_to_be_at_work_and_keeps_its_exit_code(tmp_path, code, said):
    ended = subprocess.run(
        ["bash", "-c", SCRIPT, "script", str(LAUNCH / "environment.sh"), code],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, said, "")
    assert set((tmp_path / "said").read_text().splitlines()) == {"  installing …"}
