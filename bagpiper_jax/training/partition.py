"""What of the parameters trains, as data (docs/reference.md, Training stages and Frozen parameters)."""

import dataclasses

from jaxtyping import Array

from bagpiper_jax.models.adapters import lora
from bagpiper_jax.vocabulary import Vocabulary

EMBEDDING = "decoder/embed_tokens"

Parameters = dict[str, Array]
"""Arrays by path, e.g. `decoder/layers/ffn/up`."""


@dataclasses.dataclass(frozen=True)
class Partition:
    """A division of the parameters into those that train and those that stay.

    Attributes:
        frozen: prefixes of the paths that stay; these parameters take no gradient and own no optimizer state.
        only: where given, prefixes of the paths that train; all others stay.
        keeps_text: whether the embedding's text rows stay, where the embedding trains. Its row 0, `<|pad|>`, always
            stays (docs/reference.md, Embedding and head).
    """

    frozen: tuple[str, ...] = ()
    keeps_text: bool = False
    only: tuple[str, ...] = ()

    def trains(self, path: str) -> bool:
        """Whether the parameter at a path trains."""
        return not path.startswith(self.frozen) and (not self.only or path.startswith(self.only))

    def split(self, parameters: Parameters) -> tuple[Parameters, Parameters]:
        """(trainable, frozen). Raises ValueError: a prefix matches no parameter, or none is left to train."""
        for prefix in self.frozen:
            if not any(path.startswith(prefix) for path in parameters):
                raise ValueError(f"{prefix!r} is to stay frozen, but no parameter has this prefix")
        frozen = {path: x for path, x in parameters.items() if not self.trains(path)}
        trainable = {path: x for path, x in parameters.items() if path not in frozen}
        if not trainable:
            stays = (
                f"{', '.join(self.frozen)} are all the parameters" if self.frozen else "all parameters stay"
            )
            raise ValueError(f"nothing trains: {stays}")
        return trainable, frozen

    def masked(self, gradients: Parameters, vocabulary: Vocabulary) -> Parameters:
        """The gradients with zeros for the embedding's rows that stay."""
        if EMBEDDING not in gradients:
            return gradients
        table = gradients[EMBEDDING].at[0].set(0)
        if self.keeps_text:
            table = table.at[vocabulary.text_start : vocabulary.codec_start].set(0)
        return gradients | {EMBEDDING: table}


STAGES: dict[str, Partition] = {
    "scratch": Partition(),
    "warmup": Partition(frozen=("decoder/layers/", "tower/"), keeps_text=True),
    "pretrain": Partition(frozen=("tower/",)),
    "sft": Partition(frozen=("tower/",)),
}
"""Stage → what trains in it. "scratch" trains the tower too, the others take a trained one."""

ADAPTER = Partition(only=(lora.TRAINED,))
"""What trains, whatever the stage, where a run has an adapter."""
