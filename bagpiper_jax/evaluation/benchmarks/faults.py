"""What is wrong with a benchmark's files."""

from bagpiper_jax.errors import Explained


class BenchmarkError(Explained):
    """A benchmark that cannot be read or scored; names the file, what is wrong with it and what to do."""


class MissingEvaluatorError(Explained):
    """An evaluator model or a judge that is not here; names what to install, or where to point."""
