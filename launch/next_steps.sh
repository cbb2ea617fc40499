#!/usr/bin/env bash
# Prints what a finished quickstart can be asked next. The commands work as they are printed; tests run them.
#   bash launch/next_steps.sh BAGPIPER        BAGPIPER: the program of the environment, as a user types it
set -euo pipefail

bagpiper=$1
generate="$bagpiper generate --gin_file=gin/runs/generate_nano.gin"
clip=corpora/embedded/audio/test-00000.flac

cat <<END
Next, ask it yourself: name a file of your own, of a few seconds, in place of $clip.

What is heard in a file:
  $generate --checkpoint=runs/nano_pretrain --audio=$clip

A question about a file:
  $generate --checkpoint=runs/nano_sft --audio=$clip --question="What is heard first?"

A sound from a request:
  $generate --checkpoint=runs/nano_sft --text="Please make a recording with a barking dog, then a bell, in that order." --output=runs/sound.wav
END
