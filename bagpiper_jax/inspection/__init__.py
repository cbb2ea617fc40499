"""Looking at data before and while a run sees it: limits, examples, rows, rejects, differences. No TensorFlow."""
