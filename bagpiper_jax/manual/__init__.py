"""What every setting of every job means, read from the source: of `--help`, and of the settings page in the docs.

Nothing is imported for it but the standard library, so help comes at once, and wherever the source is.
"""

from bagpiper_jax.manual.jobs import Job, job
from bagpiper_jax.manual.pages import help_of, help_of_class, reference
from bagpiper_jax.manual.settings import Group, Setting, groups

__all__ = ["Group", "Job", "Setting", "groups", "help_of", "help_of_class", "job", "reference"]
