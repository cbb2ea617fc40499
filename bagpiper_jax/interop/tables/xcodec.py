"""Names of the release's X-Codec ↔ ours, in both directions (docs/reference.md, Codec tensor names).

One table. `{b}`, `{u}` and the like stand for indices that both names share; `[{l}]` in our name picks a
slice of a stacked tensor. The layout says how a PyTorch tensor becomes ours; every layout is its own kind of
permutation, so import and export are exact inverses.
"""

import dataclasses
import itertools
import re
from collections.abc import Mapping

import numpy as np

from bagpiper_jax.interop.fillings import Fillings, from_tensors
from bagpiper_jax.interop.formats.tensors import Tensor, require_floats
from bagpiper_jax.interop.tables.grammar import check, part_of, their_shapes
from bagpiper_jax.models.codec.functional import shapes as codec_shapes
from bagpiper_jax.models.configs import CodecConfig

SAME, CHANNELS, DENSE, CONV, UPSAMPLE, POSITIONAL = (
    "same",
    "channels",
    "dense",
    "conv",
    "upsample",
    "positional",
)

_TO_OURS = {
    SAME: lambda x: x,
    CHANNELS: lambda x: x[0, :, 0],  # [1, C, 1] → [C]
    DENSE: lambda x: x.transpose(1, 0),  # [out, in] → [in, out]
    CONV: lambda x: x.transpose(2, 1, 0),  # [out, in, kernel] → [kernel, in, out]
    UPSAMPLE: lambda x: x.transpose(0, 2, 1),  # [in, out, kernel] → [in, kernel, out]
    POSITIONAL: lambda x: x[0, 0],  # [1, 1, kernel] → [kernel]
}
_TO_THEIRS = {
    SAME: lambda x: x,
    CHANNELS: lambda x: x[None, :, None],
    DENSE: lambda x: x.transpose(1, 0),
    CONV: lambda x: x.transpose(2, 1, 0),
    UPSAMPLE: lambda x: x.transpose(0, 2, 1),
    POSITIONAL: lambda x: x[None, None],
}

_LAYER = "semantic_model.encoder.layers.{l}"
_BOOK = "quantizer.quantizers.{s}.codebook"

TABLE = (
    # theirs, ours, layout
    ("{side}.conv{n}.weight", "{side}.conv{n}.kernel", CONV),
    ("{side}.conv{n}.bias", "{side}.conv{n}.bias", SAME),
    ("{side}.snake1.alpha", "{side}.snake1.alpha", CHANNELS),
    ("{side}.block.{b}.snake1.alpha", "{side}.block.{b}.snake1.alpha", CHANNELS),
    ("{side}.block.{b}.res_unit{u}.snake{n}.alpha", "{side}.block.{b}.res_unit{u}.snake{n}.alpha", CHANNELS),
    ("{side}.block.{b}.res_unit{u}.conv{n}.weight", "{side}.block.{b}.res_unit{u}.conv{n}.kernel", CONV),
    ("{side}.block.{b}.res_unit{u}.conv{n}.bias", "{side}.block.{b}.res_unit{u}.conv{n}.bias", SAME),
    ("acoustic_encoder.block.{b}.conv1.weight", "acoustic_encoder.block.{b}.conv1.kernel", CONV),
    ("acoustic_encoder.block.{b}.conv1.bias", "acoustic_encoder.block.{b}.conv1.bias", SAME),
    ("acoustic_decoder.block.{b}.conv_t1.weight", "acoustic_decoder.block.{b}.conv_t1.kernel", UPSAMPLE),
    ("acoustic_decoder.block.{b}.conv_t1.bias", "acoustic_decoder.block.{b}.conv_t1.bias", SAME),
    ("encoder_semantic.conv.weight", "encoder_semantic.conv.kernel", CONV),
    ("decoder_semantic.conv{n}.weight", "decoder_semantic.conv{n}.kernel", CONV),
    ("{sem}.conv_blocks.{r}.conv.weight", "{sem}.conv_blocks.{r}.conv.kernel", CONV),
    ("{sem}.conv_blocks.{r}.conv.bias", "{sem}.conv_blocks.{r}.conv.bias", SAME),
    (
        "{sem}.conv_blocks.{r}.res_units.{t}.conv{n}.weight",
        "{sem}.conv_blocks.{r}.res_units.{t}.conv{n}.kernel",
        CONV,
    ),
    ("semantic_model.masked_spec_embed", "semantic_model.masked_spec_embed", SAME),
    (
        "semantic_model.feature_extractor.conv_layers.{c}.conv.weight",
        "semantic_model.feature_extractor.conv_layers.{c}.kernel",
        CONV,
    ),
    (
        "semantic_model.feature_extractor.conv_layers.0.layer_norm.weight",
        "semantic_model.feature_extractor.layer_norm.scale",
        SAME,
    ),
    (
        "semantic_model.feature_extractor.conv_layers.0.layer_norm.bias",
        "semantic_model.feature_extractor.layer_norm.bias",
        SAME,
    ),
    ("semantic_model.feature_projection.layer_norm.weight", "semantic_model.feature_norm.scale", SAME),
    ("semantic_model.feature_projection.layer_norm.bias", "semantic_model.feature_norm.bias", SAME),
    ("semantic_model.feature_projection.projection.weight", "semantic_model.projection.kernel", DENSE),
    ("semantic_model.feature_projection.projection.bias", "semantic_model.projection.bias", SAME),
    ("semantic_model.encoder.pos_conv_embed.conv.bias", "semantic_model.pos_conv_embed.bias", SAME),
    (
        "semantic_model.encoder.pos_conv_embed.conv.parametrizations.weight.original0",
        "semantic_model.pos_conv_embed.magnitude",
        POSITIONAL,
    ),
    (
        "semantic_model.encoder.pos_conv_embed.conv.parametrizations.weight.original1",
        "semantic_model.pos_conv_embed.direction",
        CONV,
    ),
    ("semantic_model.encoder.layer_norm.weight", "semantic_model.layer_norm.scale", SAME),
    ("semantic_model.encoder.layer_norm.bias", "semantic_model.layer_norm.bias", SAME),
    (_LAYER + ".attention.{proj}_proj.weight", "semantic_model.layers.{proj}_proj.kernel[{l}]", DENSE),
    (_LAYER + ".attention.{proj}_proj.bias", "semantic_model.layers.{proj}_proj.bias[{l}]", SAME),
    (_LAYER + ".feed_forward.{dense}_dense.weight", "semantic_model.layers.{dense}_dense.kernel[{l}]", DENSE),
    (_LAYER + ".feed_forward.{dense}_dense.bias", "semantic_model.layers.{dense}_dense.bias[{l}]", SAME),
    (_LAYER + ".{norm}.weight", "semantic_model.layers.{norm}.scale[{l}]", SAME),
    (_LAYER + ".{norm}.bias", "semantic_model.layers.{norm}.bias[{l}]", SAME),
    ("{fc}.weight", "{fc}.kernel", DENSE),
    ("{fc}.bias", "{fc}.bias", SAME),
    (_BOOK + ".{buffer}", "quantizer.{buffer}[{s}]", SAME),
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor: the release's name, ours, the slice of ours (None for all of it) and the layout."""

    theirs: str
    ours: str
    index: int | None
    layout: str

    def to_ours(self, tensor: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(_TO_OURS[self.layout](tensor))

    def to_theirs(self, part: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(_TO_THEIRS[self.layout](part))


def entries(config: CodecConfig) -> list[Entry]:
    """The table written out for one config; 454 entries for the release's."""
    ranges = {
        "side": ("acoustic_encoder", "acoustic_decoder"),
        "sem": ("encoder_semantic", "decoder_semantic"),
        "fc": ("fc", "fc1", "fc2"),
        "proj": ("q", "k", "v", "out"),
        "dense": ("intermediate", "output"),
        "norm": ("layer_norm", "final_layer_norm"),
        "buffer": ("inited", "cluster_size", "embed", "embed_avg"),
        "n": (1, 2),
        "u": (1, 2, 3),
        "r": (0, 1),
        "t": (0, 1),
        "b": range(len(config.strides)),
        "c": range(len(config.semantic.conv_widths)),
        "l": range(config.semantic.layers),
        "s": range(config.num_codebooks),
    }
    return [entry for row in TABLE for entry in _expand(row, ranges)]


def _expand(row, ranges):
    theirs, ours, layout = row
    letters = list(dict.fromkeys(re.findall(r"\{(\w+)\}", theirs)))
    for values in itertools.product(*(ranges[letter] for letter in letters)):
        bound = dict(zip(letters, values, strict=True))
        name, _, index = ours.format(**bound).rstrip("]").partition("[")
        yield Entry(theirs.format(**bound), name, int(index) if index else None, layout)


def to_ours(tensors: Mapping[str, np.ndarray], config: CodecConfig) -> dict[str, np.ndarray]:
    """The release's state dict to our parameters.

    Raises:
        ValueError: tensors are missing or unknown; they are named.
    """
    table = entries(config)
    _require_same_names({entry.theirs for entry in table}, set(tensors))
    whole, stacks = {}, {}
    for entry in table:
        tensor = entry.to_ours(np.asarray(tensors[entry.theirs]))
        if entry.index is None:
            whole[entry.ours] = tensor
        else:
            stacks.setdefault(entry.ours, {})[entry.index] = tensor
    return whole | {name: np.stack([parts[i] for i in range(len(parts))]) for name, parts in stacks.items()}


def to_theirs(parameters: Mapping[str, np.ndarray], config: CodecConfig) -> dict[str, np.ndarray]:
    """Our parameters to the release's state dict."""
    table = entries(config)
    _require_same_names({entry.ours for entry in table}, set(parameters))
    return {
        entry.theirs: entry.to_theirs(part_of(entry, np.asarray(parameters[entry.ours]))) for entry in table
    }


def import_codec(tensors: Mapping[str, Tensor], config: CodecConfig, prefix: str, where: str) -> Fillings:
    """Our codec parameters, under `prefix`, from the release's hub layout.

    Raises:
        InterchangeError: missing, unknown or misshapen tensors.
    """
    shapes = {name: x.shape for name, x in codec_shapes(config).items()}
    table = entries(config)
    check(their_shapes(table, shapes), {name: t.shape for name, t in tensors.items()}, where)
    require_floats(tensors, where)
    return {prefix + name: filling for name, filling in from_tensors(table, tensors).items()}


def _require_same_names(expected: set[str], found: set[str]) -> None:
    missing, unknown = sorted(expected - found), sorted(found - expected)
    if missing or unknown:
        raise ValueError(f"X-Codec tensors missing: {missing[:8]}; unknown: {unknown[:8]}")
