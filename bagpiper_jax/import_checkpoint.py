"""Imports a checkpoint: `import_checkpoint --gin_file=gin/models/8b.gin --gin.ImportConfig.espnet=base.pt …`."""

import sys

from bagpiper_jax import configuration
from bagpiper_jax.interop.importing import ImportConfig, import_checkpoint
from bagpiper_jax.interop.names import InterchangeError

MODEL = "--gin.ImportConfig.model=@BagpiperConfig()"


def main(argv: list[str] | None = None) -> None:
    config = configuration.load(ImportConfig, [MODEL, *(sys.argv[1:] if argv is None else argv)])
    try:
        import_checkpoint(config)
    except InterchangeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    configuration.run_job(main)
