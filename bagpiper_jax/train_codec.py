"""Trains a codec from scratch: `python -m bagpiper_jax.train_codec --gin_file=gin/runs/train_codec_nano.gin`."""

import sys

from bagpiper_jax import configuration
from bagpiper_jax.encoders.codec import TrainCodecConfig, train_codec
from bagpiper_jax.encoders.snapshot import SnapshotError
from bagpiper_jax.encoders.waveforms import CorpusAudioError
from bagpiper_jax.manifest import ManifestError


def main(argv=None):
    config = configuration.load(TrainCodecConfig, argv, __doc__)
    try:
        train_codec(config)
    except (CorpusAudioError, FloatingPointError, ManifestError, SnapshotError) as error:
        sys.exit(f"train_codec: {error}")


if __name__ == "__main__":
    configuration.run_job(main)
