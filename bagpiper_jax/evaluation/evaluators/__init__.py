"""Models that judge: recognisers, listeners, voices and opinions, each behind a name of its own.

    open_evaluator("whisper").transcribe(path, "en")     words
    open_evaluator("yamnet").hear(path)                  embeddings and logits of a clip's windows
    open_evaluator("resemblyzer").voice(path)            the embedding of a speaker
    open_evaluator("dnsmos").opinions(path)              opinion scores
    open_evaluator("clap", "a/directory").match(caption, path)   cosine of text and audio
    open_evaluator("captioner", "runs/sft").caption(path)        what a run of ours says of it
    open_evaluator("codec", "runs/sft").codec            the codec of a run, or in a file: its copies are a ceiling

Every one has a `name`, which metrics are called by, so that a stand-in never prints the official metric's name, and a
`version`, the SHA-256 of its weights. They are read from a path, or from an installed package; nothing is downloaded,
and no file is unpickled but by torch with `weights_only=True`. All may be called from several threads. Stereo files are
heard by their first channel, and any sample rate is resampled to the model's.
"""

from bagpiper_jax.evaluation.evaluators.opening import names, open_evaluator, register

__all__ = ["names", "open_evaluator", "register"]
