"""The runner: items → replies, kept as they come → verdicts → predictions and scores."""
