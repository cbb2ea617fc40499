"""Scores a trained run on held-out clips: `bagpiper evaluate --gin_file=gin/runs/evaluate_nano.gin`."""

from bagpiper_jax import configuration, parallel
from bagpiper_jax.evaluation.job import EvaluateConfig, evaluate


def main(argv: list[str] | None = None) -> None:
    config = configuration.load(EvaluateConfig, argv, __doc__, prog="bagpiper evaluate")
    parallel.require_devices()
    evaluate(config)
