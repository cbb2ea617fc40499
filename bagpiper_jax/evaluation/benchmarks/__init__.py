"""Benchmarks, one file each: items, what is asked, what is extracted, and the official and honest scores."""
