"""Transcripts as published scripts spell them, and errors counted in them."""
