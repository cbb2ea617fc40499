"""Corpora that end in one manifest form: embedded, scenes, Debian recordings, a user's own."""
