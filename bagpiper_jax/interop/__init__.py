"""Declarative name tables between our parameters and other people's checkpoints."""
