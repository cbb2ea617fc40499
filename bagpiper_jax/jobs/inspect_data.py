"""Shows what a cache holds and what any step of a run will see, and checks a mixture before launch.

inspect_data --lock=cache/embedded_pretraining_with_reading.lock.json      the mixture, per task
    --validate                                               every violated limit; exit code 4 if there is one
    --propose                                                rows, slots and chunks that fit its lengths, as gin
    --step=1200 --row=3                                      one row of a step, past or future
    --task=NAME --index=7                                    one example of a task
    --id=CLIP                                                what became of a clip in every task
    --rejects=5                                              rejects, five of each reason
    --compare=OTHER.lock.json                                what differs between two caches
    --html=PAGE.html                                         the same as a page with pictures and sound
    --audio_dir=DIR                                          writes the clips of an example or row
With --run=gin/runs/nano_pretrain.gin instead of a lock, all settings are those of that run. A codec's file
(--codec=FILE, or the run's) decodes codes. Each flag is short for --gin.InspectConfig.<flag>.
"""

import dataclasses
import os
import re
import sys

from bagpiper_jax import configuration
from bagpiper_jax.inspection.job import InspectConfig, inspect

EXIT_VIOLATED = 4


def expand(argv: list[str]) -> list[str]:
    """Short flags to bindings."""
    names = "|".join(field.name for field in dataclasses.fields(InspectConfig))
    found = []
    for flag in argv:
        if flag.startswith("--run="):
            found += [f"--gin_file={flag.removeprefix('--run=')}", "--gin.InspectConfig.train=@TrainConfig()"]
        elif flag in ("--validate", "--contents", "--propose"):
            found.append(f"--gin.InspectConfig.{flag.removeprefix('--')}=True")
        else:
            found.append(re.sub(rf"^--({names})=", r"--gin.InspectConfig.\1=", flag))
    return found


def main(argv: list[str] | None = None) -> int:
    config = configuration.load(
        InspectConfig, expand(sys.argv[1:] if argv is None else argv), __doc__, prog="bagpiper inspect_data"
    )
    view = inspect(config)
    try:
        print(view.said, flush=True)
    except BrokenPipeError:  # a reader such as `head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_VIOLATED if view.violated else 0
