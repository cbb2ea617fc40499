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
exec python -m pytest -q "${tier[@]}" "$@"
