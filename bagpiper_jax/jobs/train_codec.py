"""Trains a codec from scratch: `bagpiper train_codec --gin_file=gin/runs/train_codec_nano.gin` (docs/codec.md)."""

from bagpiper_jax import configuration, parallel
from bagpiper_jax.encoders.codec import TrainCodecConfig, train_codec


def main(argv: list[str] | None = None) -> None:
    config = configuration.load(TrainCodecConfig, argv, __doc__, prog="bagpiper train_codec")
    parallel.require_devices()
    train_codec(config)
