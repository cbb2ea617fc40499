"""The release's X-Codec as transformers names it ↔ ours (docs/reference.md, Codec tensor names): 454 tensors."""

from collections.abc import Mapping

import numpy as np

from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.interop.tables import grammar
from bagpiper_jax.interop.tables.grammar import (
    CHANNELS,
    CONV,
    KERNEL,
    MATRIX,
    SAME,
    UPSAMPLE,
    Entry,
    write_out,
)
from bagpiper_jax.models.codecs.xcodec.functional import shapes
from bagpiper_jax.models.configs import CodecConfig
from bagpiper_jax.models.parameters import require_match, shapes_of

_ACOUSTIC = "acoustic_[encoder|decoder]"
_UNIT = ".block.{b}.res_unit{u}", "/block/{b}/res_unit{u}"
_SEMANTIC = "[encoder|decoder]_semantic"
_BLOCK = ".conv_blocks.{r}", "/conv_blocks/{r}"
_HUBERT, _OURS = "semantic_model", "semantic_model"
_FEATURES = _HUBERT + ".feature_extractor.conv_layers", _OURS + "/feature_extractor"
_POSITION = _HUBERT + ".encoder.pos_conv_embed.conv", _OURS + "/pos_conv_embed"
_LAYER = _HUBERT + ".encoder.layers.{l}", _OURS + "/layers"

TABLE = (
    # The acoustic branch.
    (_ACOUSTIC + ".conv{n}.weight", _ACOUSTIC + "/conv{n}/kernel", CONV),
    (_ACOUSTIC + ".conv{n}.bias", _ACOUSTIC + "/conv{n}/bias", SAME),
    (_ACOUSTIC + ".snake1.alpha", _ACOUSTIC + "/snake1/alpha", CHANNELS),
    (_ACOUSTIC + ".block.{b}.snake1.alpha", _ACOUSTIC + "/block/{b}/snake1/alpha", CHANNELS),
    (_ACOUSTIC + _UNIT[0] + ".snake{n}.alpha", _ACOUSTIC + _UNIT[1] + "/snake{n}/alpha", CHANNELS),
    (_ACOUSTIC + _UNIT[0] + ".conv{n}.weight", _ACOUSTIC + _UNIT[1] + "/conv{n}/kernel", CONV),
    (_ACOUSTIC + _UNIT[0] + ".conv{n}.bias", _ACOUSTIC + _UNIT[1] + "/conv{n}/bias", SAME),
    ("acoustic_encoder.block.{b}.conv1.weight", "acoustic_encoder/block/{b}/conv1/kernel", CONV),
    ("acoustic_encoder.block.{b}.conv1.bias", "acoustic_encoder/block/{b}/conv1/bias", SAME),
    ("acoustic_decoder.block.{b}.conv_t1.weight", "acoustic_decoder/block/{b}/conv_t1/kernel", UPSAMPLE),
    ("acoustic_decoder.block.{b}.conv_t1.bias", "acoustic_decoder/block/{b}/conv_t1/bias", SAME),
    # What stands around HuBERT's features.
    ("encoder_semantic.conv.weight", "encoder_semantic/conv/kernel", CONV),
    ("decoder_semantic.conv{n}.weight", "decoder_semantic/conv{n}/kernel", CONV),
    (_SEMANTIC + _BLOCK[0] + ".conv.weight", _SEMANTIC + _BLOCK[1] + "/conv/kernel", CONV),
    (_SEMANTIC + _BLOCK[0] + ".conv.bias", _SEMANTIC + _BLOCK[1] + "/conv/bias", SAME),
    (
        _SEMANTIC + _BLOCK[0] + ".res_units.{t}.conv{n}.weight",
        _SEMANTIC + _BLOCK[1] + "/res_units/{t}/conv{n}/kernel",
        CONV,
    ),
    # HuBERT.
    (_HUBERT + ".masked_spec_embed", _OURS + "/masked_spec_embed", SAME),
    (_FEATURES[0] + ".{c}.conv.weight", _FEATURES[1] + "/conv_layers/{c}/kernel", CONV),
    (_FEATURES[0] + ".0.layer_norm.[weight|bias]", _FEATURES[1] + "/layer_norm/[scale|bias]", SAME),
    (_HUBERT + ".feature_projection.layer_norm.[weight|bias]", _OURS + "/feature_norm/[scale|bias]", SAME),
    (_HUBERT + ".feature_projection.projection.weight", _OURS + "/projection/kernel", MATRIX),
    (_HUBERT + ".feature_projection.projection.bias", _OURS + "/projection/bias", SAME),
    (_POSITION[0] + ".bias", _POSITION[1] + "/bias", SAME),
    (_POSITION[0] + ".parametrizations.weight.original0", _POSITION[1] + "/magnitude", KERNEL),
    (_POSITION[0] + ".parametrizations.weight.original1", _POSITION[1] + "/direction", CONV),
    (_HUBERT + ".encoder.layer_norm.[weight|bias]", _OURS + "/layer_norm/[scale|bias]", SAME),
    (_LAYER[0] + ".attention.[q|k|v|out]_proj.weight", _LAYER[1] + "/[q|k|v|out]_proj/kernel", MATRIX),
    (_LAYER[0] + ".attention.[q|k|v|out]_proj.bias", _LAYER[1] + "/[q|k|v|out]_proj/bias", SAME),
    (
        _LAYER[0] + ".feed_forward.[intermediate|output]_dense.weight",
        _LAYER[1] + "/[intermediate|output]_dense/kernel",
        MATRIX,
    ),
    (
        _LAYER[0] + ".feed_forward.[intermediate|output]_dense.bias",
        _LAYER[1] + "/[intermediate|output]_dense/bias",
        SAME,
    ),
    (
        _LAYER[0] + ".[layer_norm|final_layer_norm].[weight|bias]",
        _LAYER[1] + "/[layer_norm|final_layer_norm]/[scale|bias]",
        SAME,
    ),
    # Both branches together.
    ("[fc|fc1|fc2].weight", "[fc|fc1|fc2]/kernel", MATRIX),
    ("[fc|fc1|fc2].bias", "[fc|fc1|fc2]/bias", SAME),
    (
        "quantizer.quantizers.{s}.codebook.[inited|cluster_size|embed|embed_avg]",
        "quantizer/[inited|cluster_size|embed|embed_avg]",
        SAME,
    ),
)


def entries(config: CodecConfig) -> list[Entry]:
    """The table for a codec of these sizes."""
    return write_out(TABLE, shapes_of(shapes(config)))


def to_ours(tensors: Mapping[str, np.ndarray], config: CodecConfig) -> dict[str, np.ndarray]:
    """The release's state dict to our parameters. Raises InterchangeError for one that does not fit."""
    ours, table = shapes_of(shapes(config)), entries(config)
    theirs = {name: np.shape(x) for name, x in tensors.items()}
    require_match(grammar.their_shapes(table, ours), theirs, "the X-Codec", InterchangeError)
    return grammar.to_ours(table, tensors)


def to_theirs(parameters: Mapping[str, np.ndarray], config: CodecConfig) -> dict[str, np.ndarray]:
    """Our parameters to the release's state dict. Raises InterchangeError for others."""
    ours = shapes_of(shapes(config))
    require_match(ours, {n: np.shape(x) for n, x in parameters.items()}, "the X-Codec", InterchangeError)
    return dict(grammar.to_theirs(entries(config), parameters))
