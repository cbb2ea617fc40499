"""What a run needs before it has a machine: memory, FLOPs, traffic, time and cost, from its own compiled step."""
