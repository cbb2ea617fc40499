"""Train Bagpiper, an audio foundation model that thinks in rich captions, on TPU pods."""

__version__ = "0.1.0"
