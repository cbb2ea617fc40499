"""HTTP above the engine: OpenAI's chat completions and speech, a page to play with, health and metrics.

docs/serving.md.
"""
