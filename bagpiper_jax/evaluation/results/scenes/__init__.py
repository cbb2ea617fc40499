"""The page of a chain of runs: clips to hear, dialogues, the table of the benchmarks of scenes, and training curves."""
