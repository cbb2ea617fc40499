"""Metrics as pure functions of texts and arrays, one file each: no model, no file, no setting."""
