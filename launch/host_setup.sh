#!/usr/bin/env bash
# Prepares a host of a pod: a Python of its own, since the images bring 3.10, and the package with the build of JAX
# named by the argument (tpu or gpu). What is there already is kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stamp=.venv/.installed-from
wanted="$1 $(cat setup.py pyproject.toml | cksum)"
[[ -f $stamp && $(cat "$stamp") == "$wanted" ]] && exit 0
python3 -m pip install --quiet --user uv
python3 -m uv venv --quiet --clear --python 3.12 .venv
python3 -m uv pip install --quiet --python .venv/bin/python --editable ".[$1]"
echo "$wanted" > "$stamp"
