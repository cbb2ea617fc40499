"""Imports a checkpoint: of ESPnet or vLLM, or the parts that a run starts from.

bagpiper import_checkpoint --gin_file=gin/models/8b.gin --gin.ImportConfig.espnet=base.pt \\
    --gin.ImportConfig.output=OURS
bagpiper import_checkpoint --gin_file=gin/models/8b.gin --gin.ImportConfig.qwen3=Qwen3-8B-Base \\
    --gin.ImportConfig.tower=Qwen3-Omni --gin.ImportConfig.xcodec=xcodec-hubert-general --gin.ImportConfig.output=OURS

The same command continues an import that was interrupted.
"""

import sys

from bagpiper_jax import configuration
from bagpiper_jax.interop.importing import ImportConfig, import_checkpoint
from bagpiper_jax.interop.names import InterchangeError

MODEL = "--gin.ImportConfig.model=@BagpiperConfig()"


def main(argv: list[str] | None = None) -> None:
    config = configuration.load(ImportConfig, [MODEL, *(sys.argv[1:] if argv is None else argv)], __doc__)
    try:
        import_checkpoint(config)
    except OSError as error:
        raise InterchangeError(str(error)) from error
