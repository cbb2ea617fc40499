"""Scores on held-out clips and the report page."""
