"""Held-out clips of a corpus of ours: captions and back, questions and requests, each score beside its controls.

`captioning` has what every run of ours learns in pretraining, `dialogues` what a tuned one learns beside it.
"""
