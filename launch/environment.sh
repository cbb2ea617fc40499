#!/usr/bin/env bash
# Makes the virtual environment a script runs in, or reuses the one it made before from the same setup.py and pyproject.toml.
#   source launch/environment.sh EXTRA        EXTRA: quickstart, debian or test
# PYTHON chooses the interpreter (3.11 or newer), VENV the directory.
set -euo pipefail

extra=$1
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${VENV:-$repository/.venv-$extra}
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed, $("$python" --version) found; set PYTHON=…" >&2
    exit 2
}

stamp=$venv/.installed-from
wanted="$extra $("$python" --version) $(cat "$repository"/{setup.py,pyproject.toml} | cksum)"
if [[ ! -f $stamp || $(cat "$stamp") != "$wanted" ]]; then
    echo "Installing the '$extra' environment into ${venv#"$repository"/} …"
    "$python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet uv
    if [[ $extra == test ]]; then
        # The release of PyTorch the tests compare with, through pip, so that pip's own settings decide between
        # the CPU and the CUDA build.
        "$venv/bin/python" -m pip install --quiet torch==2.13.0
    fi
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --editable "$repository[$extra]"
    echo "$wanted" > "$stamp"
fi

export PATH="$venv/bin:$PATH"
unset PYTHONDONTWRITEBYTECODE  # every job would compile all it imports, which takes longer than most jobs
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3}
cd "$repository"
