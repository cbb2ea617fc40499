"""SeqIO tasks and mixtures: what to learn. `import tasks.mixtures` registers them all (and loads TensorFlow)."""
