"""Corpora that end in one manifest form: embedded, soundscapes, Debian recordings, a user's own."""
