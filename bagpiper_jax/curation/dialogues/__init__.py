"""Simulating tuning dialogues: requests and questions, the reasoning to them, and the judges."""
