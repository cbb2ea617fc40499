"""From authored tasks and corpora to caches: offline, restartable, every reject counted. Loads SeqIO and TensorFlow."""
