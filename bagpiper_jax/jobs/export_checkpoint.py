"""Exports a checkpoint to ESPnet, vLLM or transformers.

bagpiper export_checkpoint --checkpoint=RUN --format=espnet --output=base.pt
bagpiper export_checkpoint --checkpoint=RUN --format=vllm --output=DIRECTORY    also qwen3, tower, xcodec
bagpiper export_checkpoint --checkpoint=RUN --format=peft --output=DIRECTORY    the adapter of a run; --prefix=vllm
bagpiper export_checkpoint --list --format=espnet --gin_file=gin/models/8b.gin  only names the tensors
"""

import re
import sys

from bagpiper_jax import configuration
from bagpiper_jax.interop.export_config import ExportConfig
from bagpiper_jax.interop.exporting import export_checkpoint, list_tensors
from bagpiper_jax.interop.faults import InterchangeError

# Shorthands of this job, as bindings.
_LIST = ("--gin.ExportConfig.list=True", "--gin.ExportConfig.model=@BagpiperConfig()")
_SETTINGS = "format|prefix|base|dtype|checkpoint|output|codec|tokenizer|license|base_model"


def main(argv: list[str] | None = None) -> None:
    config = configuration.load(
        ExportConfig,
        list(_bindings(sys.argv[1:] if argv is None else argv)),
        __doc__,
        prog="bagpiper export_checkpoint",
    )
    if config.list:
        print(*list_tensors(config), sep="\n")
        return
    try:
        export_checkpoint(config)
    except OSError as error:
        raise InterchangeError(str(error)) from error


def _bindings(argv: list[str]):
    for flag in argv:
        if flag == "--list":
            yield from _LIST
        else:
            yield re.sub(rf"^--({_SETTINGS})=", r"--gin.ExportConfig.\1=", flag)
