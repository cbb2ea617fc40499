"""What the benchmarks of generated sound have in common."""
