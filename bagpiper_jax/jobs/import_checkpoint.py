"""Imports a checkpoint: of ESPnet or vLLM, or the parts that a run starts from.

bagpiper import_checkpoint --gin_file=gin/models/8b.gin --gin.ImportConfig.espnet=base.pt \\
    --gin.ImportConfig.output=OURS
bagpiper import_checkpoint --gin_file=gin/models/8b.gin --gin.ImportConfig.qwen3=Qwen3-8B-Base \\
    --gin.ImportConfig.tower=Qwen3-Omni --gin.ImportConfig.xcodec=xcodec-hubert-general --gin.ImportConfig.output=OURS
bagpiper import_checkpoint --gin.ImportConfig.peft=ADAPTER --gin.ImportConfig.base=OURS \\
    --gin.ImportConfig.output=OUR_ADAPTER

The same command continues an import that was interrupted.
"""

from bagpiper_jax import configuration
from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.interop.importing import ImportConfig, import_checkpoint, with_sizes_of_sources

# So that whatever is bound of these parts reaches the import, without a gin file that joins them.
_PARTS = (
    "ImportConfig.model=@BagpiperConfig()",
    "ImportConfig.codec=@CodecConfig()",
    "BagpiperConfig.decoder=@DecoderConfig()",
    "BagpiperConfig.tower=@AudioTowerConfig()",
    "BagpiperConfig.vocabulary=@Vocabulary()",
    "CodecConfig.semantic=@SemanticEncoderConfig()",
)


def main(argv: list[str] | None = None) -> None:
    config = configuration.load(ImportConfig, argv, __doc__, _PARTS, prog="bagpiper import_checkpoint")
    try:
        import_checkpoint(with_sizes_of_sources(config, configuration.bound()))
    except OSError as error:
        raise InterchangeError(str(error)) from error
