"""Opens a codec file, whichever codec it holds."""

import os

from bagpiper_jax.models.codecs.protocol import Codec
from bagpiper_jax.models.codecs.xcodec.loaded import LoadedXCodec
from bagpiper_jax.models.codecs.xcodec.storage import load_codec


def open_codec(path: str | os.PathLike) -> Codec:
    """The codec in a file. A second kind of codec is told from the first by the format in the file's header.

    Raises:
        CodecFileError: a file that is missing, damaged, or no codec.
    """
    return LoadedXCodec(*load_codec(path))
