"""Selecting captions: every clip is measured once, then columns of all clips decide."""
