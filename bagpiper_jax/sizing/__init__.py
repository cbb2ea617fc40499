"""What a run will cost before it has a machine: memory, traffic, roofline, search."""
