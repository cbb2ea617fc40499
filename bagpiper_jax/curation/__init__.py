"""Manifests made from manifests: captions asked for, tagged, scored and selected; tuning dialogues simulated."""
