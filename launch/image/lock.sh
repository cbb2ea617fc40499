#!/usr/bin/env bash
# Writes the versions that images are built with, launch/image/<accelerator>.lock: the newest that setup.py allows today.
#   bash launch/image/lock.sh        needs uv
set -euo pipefail
cd "$(dirname "$0")/../.."

for accelerator in tpu gpu cpu; do
    extras=(--extra serve)
    [[ $accelerator == cpu ]] || extras+=(--extra "$accelerator")
    uv pip compile --quiet setup.py "${extras[@]}" --python-version 3.12 --python-platform x86_64-manylinux_2_31 \
        --no-header --no-annotate --no-emit-index-url --upgrade --output-file "launch/image/$accelerator.lock"
done
