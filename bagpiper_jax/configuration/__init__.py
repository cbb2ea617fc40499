"""Gin at the edge: from gin files and flags to one built, type-checked frozen dataclass."""

from bagpiper_jax.configuration.loading import (
    EXIT_FAULT,
    ConfigurationError,
    build,
    load,
    operative_config,
    run_job,
)

__all__ = ["EXIT_FAULT", "ConfigurationError", "build", "load", "operative_config", "run_job"]
