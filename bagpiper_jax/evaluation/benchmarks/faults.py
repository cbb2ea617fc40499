"""What is wrong with a benchmark's files."""

from bagpiper_jax.errors import Explained


class BenchmarkError(Explained):
    """A benchmark that cannot be read or scored; names the file, what is wrong with it and what to do."""
