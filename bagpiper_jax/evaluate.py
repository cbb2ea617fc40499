"""Scores a trained run on held-out clips: `python -m bagpiper_jax.evaluate --gin_file=gin/runs/evaluate_nano.gin`."""

from bagpiper_jax import configuration
from bagpiper_jax.evaluation.job import EvaluateConfig, evaluate


def main(argv=None):
    evaluate(configuration.load(EvaluateConfig, argv, __doc__))


if __name__ == "__main__":
    configuration.run_job(main)
