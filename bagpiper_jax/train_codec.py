"""Trains a codec from scratch: `python -m bagpiper_jax.train_codec --gin_file=gin/runs/train_codec_nano.gin`."""

from bagpiper_jax import configuration
from bagpiper_jax.training.codec import TrainCodecConfig, train_codec


def main(argv=None):
    train_codec(configuration.load(TrainCodecConfig, argv, __doc__))


if __name__ == "__main__":
    configuration.run_job(main)
