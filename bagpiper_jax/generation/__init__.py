"""Generation: sampling and the segment loop (docs/reference.md, Generation)."""
