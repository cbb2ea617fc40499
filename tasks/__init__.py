"""SeqIO tasks and mixtures: what to learn."""
