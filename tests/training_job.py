"""A training run on synthetic batches, as a process of its own: `python training_job.py OUTPUT [FIELD=VALUE …]`."""

import dataclasses
import json
import logging
import sys
import zlib


def main(output: str, *bindings: str) -> int:
    from training_helpers import CONFIG, SyntheticLoader

    from bagpiper_jax.training.faults import EXIT_TRY_AGAIN
    from bagpiper_jax.training.loop import train

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    fields = {name: json.loads(value) for name, value in (b.split("=", 1) for b in bindings)}
    config = dataclasses.replace(CONFIG, output=output, log_every=1, save_every=2, validate_every=0, **fields)

    class Watched(SyntheticLoader):
        """Notes every batch that training asks for."""

        def iterate(self, start_step):
            for step, batch in enumerate(super().iterate(start_step), start_step):
                print(f"BATCH {step} {zlib.crc32(batch.tokens.tobytes())}", flush=True)
                yield batch

    return 0 if train(config, Watched()) else EXIT_TRY_AGAIN


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
