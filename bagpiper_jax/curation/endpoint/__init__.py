"""Asking an OpenAI-compatible endpoint: requests, budgets, answers that are kept, and what replies say."""
