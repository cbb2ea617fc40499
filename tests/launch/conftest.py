"""The cloud that the tests of this folder share."""

from launching import cloud  # noqa: F401
