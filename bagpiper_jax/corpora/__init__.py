"""Corpora that end in one manifest form: embedded, Debian recordings, a user's own."""
