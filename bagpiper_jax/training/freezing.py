"""Which parameters train in which stage (docs/reference.md, Training stages and Frozen parameters)."""

from jaxtyping import Array, Float

from bagpiper_jax.vocabulary import Vocabulary

EMBEDDING = "decoder/embed_tokens"

STAGES: dict[str, tuple[str, ...]] = {
    "scratch": (),
    "warmup": ("decoder/layers/", "tower/"),
    "pretrain": ("tower/",),
    "sft": ("tower/",),
}
"""Stage → prefixes of the parameters that it freezes. "scratch" trains the tower too, the others take a trained
one. "warmup" also keeps the text rows of the embedding, see `mask_embedding`."""

Parameters = dict[str, Array]
"""Arrays by path, e.g. `decoder/layers/ffn/up`."""


def split(parameters: Parameters, stage: str) -> tuple[Parameters, Parameters]:
    """(trainable, frozen). Raises ValueError if a prefix of the stage matches no parameter."""
    prefixes = STAGES[stage]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in parameters):
            raise ValueError(f"stage {stage!r} freezes {prefix!r}, but no parameter has this prefix")
    frozen = {name: x for name, x in parameters.items() if name.startswith(prefixes)}
    trainable = {name: x for name, x in parameters.items() if name not in frozen}
    return trainable, frozen


def mask_embedding(gradient: Float[Array, "V D"], stage: str, vocabulary: Vocabulary) -> Float[Array, "V D"]:
    """Zeroes the gradient of rows that stay: `<|pad|>` always, text in warm-up.

    See docs/reference.md, Embedding and head.
    """
    gradient = gradient.at[0].set(0)
    if stage == "warmup":
        gradient = gradient.at[vocabulary.text_start : vocabulary.codec_start].set(0)
    return gradient
