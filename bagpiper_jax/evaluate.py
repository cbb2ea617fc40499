"""Scores a trained run on held-out clips: `python -m bagpiper_jax.evaluate --gin_file=gin/runs/evaluate_nano.gin`."""

import sys

from bagpiper_jax import configuration
from bagpiper_jax.evaluation.held_out import EvaluationError
from bagpiper_jax.evaluation.job import EvaluateConfig, evaluate
from bagpiper_jax.generation.replies import LOAD_ERRORS
from bagpiper_jax.manifest import ManifestError


def main(argv=None):
    config = configuration.load(EvaluateConfig, argv, __doc__)
    try:
        evaluate(config)
    except (EvaluationError, ManifestError, *LOAD_ERRORS) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    configuration.run_job(main)
