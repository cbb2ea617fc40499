#!/usr/bin/env bash
# The quickstart's chain on real recordings, codec and tower included; about an hour on two cores.
# Needs Debian or Ubuntu. Writes corpora/, cache/ and runs/; an interrupted run continues where it was.
set -euo pipefail
began=$SECONDS
source "$(dirname "$0")/environment.sh" debian
source launch/jobs.sh

job "Download and build the corpus" build_corpus --gin_file=gin/corpora/debian.gin \
    --gin.DebianCorpusConfig.hold_out=prompt
job "Learn its tokenizer" learn_tokenizer --gin_file=gin/corpora/debian_tokenizer.gin
job "Train a codec" train_codec --gin_file=gin/runs/debian_codec.gin
job "Train an audio tower" train_tower --gin_file=gin/runs/debian_tower.gin
job "Audio to codec codes" tokenize_audio --gin.TokenizeConfig.corpus=corpora/debian \
    --gin.TokenizeConfig.codec=runs/debian_codec/codec.safetensors
job "Cache the SeqIO mixtures" cache_tasks --gin_file=gin/mixtures/debian.gin
[ -d runs/debian_start ] || job "Import the audio tower" import_checkpoint --gin_file=gin/runs/debian_start.gin
job "Pretrain: caption → audio, audio → caption, text" train --gin_file=gin/runs/debian_pretrain.gin
job "Tune: caption first, then process" train --gin_file=gin/runs/debian_sft.gin
job "Score held-out recordings" evaluate --gin_file=gin/runs/evaluate_debian.gin

printf '\nDone in %s. The report: %s\n' "$(elapsed)" "$repository/runs/debian_evaluation/report.html"
