"""Training a codec or an audio tower from scratch."""
