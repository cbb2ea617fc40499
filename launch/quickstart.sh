#!/usr/bin/env bash
# From nothing to a trained nano Bagpiper and its report page, on CPU.
# Writes corpora/, cache/ and runs/ in the repository. A run that was interrupted continues where it was.
set -euo pipefail
began=$SECONDS
source "$(dirname "$0")/environment.sh" quickstart
export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu}
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$repository/runs/jax_cache}

job() {
    local title=$1 name=$2
    shift 2
    printf '\n== %s (%d:%02d)\n' "$title" $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60))
    python -m "bagpiper_jax.$name" "$@"
}

job "Build the embedded corpus" build_corpus --gin_file=gin/corpora/embedded.gin
job "Learn its tokenizer" learn_tokenizer --gin_file=gin/corpora/tokenizer.gin
job "Audio to codec codes" tokenize_audio --gin.TokenizeConfig.corpus=corpora/embedded
job "Cache the SeqIO mixtures" cache_tasks --gin_file=gin/mixtures/embedded.gin
job "Pretrain: caption → audio, audio → caption, text" train --gin_file=gin/runs/nano_pretrain.gin
job "Tune: caption first, then process" train --gin_file=gin/runs/nano_sft.gin
job "Score held-out scenes" evaluate --gin_file=gin/runs/evaluate_nano.gin

printf '\nDone in %d:%02d. The report: %s\n' \
    $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60)) "$repository/runs/evaluation/report.html"
