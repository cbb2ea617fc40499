"""Attention: `kernels` names those of the decoder; `xla` runs anywhere; `splash` and `gpu` are for their chips."""
