"""What each kind of checkpoint fills our parameters with, once its tensors are those of a model of our sizes."""

import logging
from collections.abc import Iterable

import numpy as np

from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.interop.fillings import Fillings, from_tensors, normal_rows, placed
from bagpiper_jax.interop.formats.tensors import Tensors, require_floats
from bagpiper_jax.interop.tables import espnet, qwen3, tower, xcodec
from bagpiper_jax.interop.tables.grammar import Entry, their_shapes
from bagpiper_jax.models.codecs.xcodec.functional import shapes as codec_shapes
from bagpiper_jax.models.configs import BagpiperConfig, CodecConfig
from bagpiper_jax.models.parameters import Shapes, require_match, shapes_of
from bagpiper_jax.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


def native(
    tensors: Tensors, ours: Shapes, codec: CodecConfig, vocabulary: Vocabulary, where: str
) -> Fillings:
    """Our parameters of model and codec (the latter under `espnet.CODEC`, absent if the checkpoint has no codec).

    Raises:
        InterchangeError: missing, unknown or misshapen tensors; class weights of another vocabulary layout,
            which once turned a loss of 2.1 into 55.7 without a word (docs/reference.md, Token layout).
    """
    table = espnet.entries(ours, codec)
    if not any(name.startswith(espnet.CODEC_PREFIX) for name in tensors):
        logger.warning(
            "%s holds no codec; audio cannot be generated, nor a native checkpoint exported", where
        )
        table = [entry for entry in table if not entry.ours.startswith(espnet.CODEC)]
    weighted = espnet.VOCAB_WEIGHT in tensors  # vLLM's directory drops it
    weights = {espnet.VOCAB_WEIGHT: (vocabulary.size,)} if weighted else {}
    _require(their_shapes(table, ours) | weights, tensors, where)
    if weighted:
        found = tensors[espnet.VOCAB_WEIGHT].read()
        if not np.array_equal(found, espnet.class_weights(vocabulary)):
            raise InterchangeError(
                f"{where}: {espnet.VOCAB_WEIGHT} does not have the layout specials | text | codec of this vocabulary; "
                "the checkpoint orders its ids otherwise, or Vocabulary.text_size and codebook_size are not its own"
            )
    return from_tensors(table, tensors)


def backbone(tensors: Tensors, config: BagpiperConfig, ours: Shapes, seed: int, where: str) -> Fillings:
    """Decoder and head from a text-only Qwen3 (docs/reference.md, Embedding and head).

    Its rows become our text rows; specials and codec rows are drawn anew. Tables over our whole vocabulary, as our
    export has them, are taken as they are. A model with tied embeddings gives its head from them.

    Args:
        tensors: the checkpoint.
        config, ours: our model and its shapes.
        seed: of the new rows.
        where: name of the checkpoint for errors.

    Raises:
        InterchangeError: missing, unknown or misshapen tensors, or more text rows than the vocabulary has.
    """
    tensors, vocabulary = dict(tensors), config.vocabulary
    if qwen3.EMBEDDING in tensors:
        tensors.setdefault(qwen3.HEAD, tensors[qwen3.EMBEDDING])
    shape = tensors[qwen3.HEAD].shape if qwen3.HEAD in tensors else ()
    rows = shape[0] if shape else 0
    whole = rows == vocabulary.size
    rows = rows if whole else min(rows, vocabulary.text_size)
    text = {**ours, **{name: (rows, *ours[name][1:]) for name in qwen3.VOCABULARY_TABLES}}
    found = _filled(qwen3.entries(text), text, tensors, where)
    if whole:
        return found
    for name in qwen3.VOCABULARY_TABLES:
        fresh = normal_rows(name, config.decoder.width, config.decoder.init_std, seed)
        found[name] = placed(found[name], rows, vocabulary.text_start, fresh)
    return found


def audio_tower(tensors: Tensors, ours: Shapes, where: str) -> Fillings:
    """The tower out of any checkpoint that holds one under some prefix; other tensors are not read.

    Raises:
        InterchangeError: no tower, more than one, or one of other names or shapes.
    """
    prefixes = [name.removesuffix(tower.FIRST) for name in tensors if name.endswith(tower.FIRST)]
    if len(prefixes) != 1:
        raise InterchangeError(
            f"{where} holds {len(prefixes)} audio towers (tensors …{tower.FIRST}), one is needed"
        )
    own = {name.removeprefix(prefixes[0]): tensors[name] for name in tower.select(tensors)}
    return _filled(tower.entries(ours), ours, own, where)


def codec(tensors: Tensors, config: CodecConfig, where: str) -> Fillings:
    """Our codec's parameters, under `espnet.CODEC`, from the hub's layout of an X-Codec.

    Raises:
        InterchangeError: missing, unknown or misshapen tensors.
    """
    found = _filled(xcodec.entries(config), shapes_of(codec_shapes(config)), tensors, where)
    return {espnet.CODEC + name: filling for name, filling in found.items()}


def _filled(table: Iterable[Entry], ours: Shapes, tensors: Tensors, where: str) -> Fillings:
    _require(their_shapes(table, ours), tensors, where)
    return from_tensors(table, tensors)


def _require(expected: Shapes, tensors: Tensors, where: str) -> None:
    """Raises InterchangeError unless the tensors are those expected, in types that weights have."""
    found = shapes_of(tensors)
    remedy = _prefix(expected, found) or "bind the sizes of the checkpoint, or choose another"
    require_match(expected, found, where, InterchangeError, remedy)
    require_floats(tensors, where)


def _prefix(expected: Shapes, found: Shapes) -> str:
    """A prefix that all names carry, as wrappers of torch modules add them, is worth telling."""
    name = next(iter(expected))
    for other in found:
        prefix = other.removesuffix(name)
        if prefix and prefix != other and all(n.startswith(prefix) for n in found):
            return f"every name begins with the unknown prefix {prefix!r}; remove it"
    return ""
