"""Generation: sampling and the segment loop (reference section 6)."""
