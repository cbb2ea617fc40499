#!/usr/bin/env bash
# Makes the test environment and runs the tests. Arguments go to pytest.
#   bash launch/test.sh              the default tests
#   bash launch/test.sh --slow       the slow tier as well
#   bash launch/test.sh tests/test_dialogue.py -k delay
set -euo pipefail
source "$(dirname "$0")/environment.sh" test

tier=(-m "not slow")
if [[ ${1:-} == --slow ]]; then
    tier=()
    shift
fi
# Two processes: most of the time goes into compiling, which keeps one core busy. A file stays in one process, and
# tests/conftest.py says which file comes first.
exec python -m pytest -q --numprocesses 2 --dist loadfile --no-loadscope-reorder "${tier[@]}" "$@"
