#!/usr/bin/env bash
# From nothing to a page to play with, on CPU: serves the quickstart's tuned nano model, whose weights are shipped.
# Arguments go to the server: bash launch/demo.sh --gin.ServeConfig.port=8080
set -euo pipefail
began=$SECONDS
source "$(dirname "$0")/environment.sh" serve
source launch/jobs.sh

[ -d runs/nano_demo ] || job "Import the shipped weights" import_checkpoint --gin_file=gin/runs/nano_demo.gin
printf '\n== Serve them (%s); Ctrl-C ends it\n' "$(elapsed)"
exec python -m bagpiper_jax serve --gin_file=gin/runs/serve_nano.gin --gin.ServeConfig.checkpoint=runs/nano_demo "$@"
