"""Gin at the edge: from gin files and flags to one built, type-checked frozen dataclass."""

from bagpiper_jax.configuration.loading import (
    ConfigurationError,
    bound,
    build,
    load,
    operative_config,
)

__all__ = ["ConfigurationError", "bound", "build", "load", "operative_config"]
