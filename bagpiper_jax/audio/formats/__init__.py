"""Formats of files: where their sound lies, and whether all of it is there."""
