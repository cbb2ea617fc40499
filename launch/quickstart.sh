#!/usr/bin/env bash
# From nothing to a trained nano Bagpiper and its report page, on CPU.
# Writes corpora/, cache/ and runs/ in the repository. A run that was interrupted continues where it was.
set -euo pipefail
began=$SECONDS
from=$PWD
source "$(dirname "$0")/environment.sh" quickstart
source launch/jobs.sh

job "Build the embedded corpus" build_corpus --gin_file=gin/corpora/embedded.gin
job "Learn its tokenizer" learn_tokenizer --gin_file=gin/corpora/tokenizer.gin
job "Audio to codec codes" tokenize_audio --gin.TokenizeConfig.corpus=corpora/embedded
job "Cache the SeqIO mixtures" cache_tasks --gin_file=gin/mixtures/embedded.gin
# An import that was killed is called nano_start.partial, and goes on: what has the name is whole.
[ -d runs/nano_start ] || job "Import the audio tower" import_checkpoint --gin_file=gin/runs/nano_start.gin
job "Pretrain: caption → audio, audio → caption, text" train --gin_file=gin/runs/nano_pretrain.gin
job "Tune: caption first, then process" train --gin_file=gin/runs/nano_sft.gin
job "Score held-out scenes" evaluate --gin_file=gin/runs/evaluate_nano.gin

printf '\nDone in %s. The report: %s\n\n' "$(elapsed)" "$repository/runs/evaluation/report.html"
[ "$from" = "$repository" ] || printf 'In its directory:\n  cd %q\n\n' "$repository"
bash launch/next_steps.sh "${venv#"$repository"/}/bin/bagpiper"
