"""A codec, whose copies of true clips say how well anything that is made of its codes can be heard."""

import dataclasses
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators import weights
from bagpiper_jax.models.codecs.opening import open_codec
from bagpiper_jax.models.codecs.protocol import Codec
from bagpiper_jax.models.config_json import load_model_config
from bagpiper_jax.training import companions


@dataclasses.dataclass(frozen=True)
class CodecEvaluator:
    """A codec under the name of its file or its run."""

    name: str
    codec: Codec

    @property
    def version(self) -> str:
        return self.codec.fingerprint


def open_codec_of(path: str = "") -> CodecEvaluator:
    """See `open_evaluator`. A path is a codec's file, or the directory of a run that has one.

    Raises:
        MissingEvaluatorError: none is named, or the run has none.
        ModelConfigError, CodecFileError, DigestError: it is no such file or directory; the message says what is wrong.
    """
    if not path:
        raise MissingEvaluatorError("codec: name the path of a codec's file, or of a run that has a codec")
    found = weights.at(path, "codec")
    file = companions.find(found, load_model_config(found)[1], "codec") if found.is_dir() else str(found)
    if not file:
        raise MissingEvaluatorError(f"codec: the run {found} has no codec; name a codec's file")
    return CodecEvaluator(f"codec_{Path(path).absolute().stem}", open_codec(file))
