"""Networks that know voices: `voice(path)` is an embedding of length 1, so that a product of two is their cosine."""
