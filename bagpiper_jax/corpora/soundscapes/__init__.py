"""The harder corpus made by code: sentences of three voices, events that overlap, backgrounds, rooms and noise."""
