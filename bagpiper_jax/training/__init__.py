"""One pure train step and the loop around it."""
