"""Manifests made from manifests: captions asked for, tagged, scored and selected; tuning dialogues simulated.

Each job is a file: `captioning`, `tagging`, `scoring`, `selection/selecting`, `dialogues/simulation`. All write a
corpus through `derived`.
"""
