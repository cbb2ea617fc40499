"""The token layout: specials | text | codec streams (docs/reference.md, Token layout).

A token is a vector of S ids, one per stream. Specials and text live on stream 0, with zeros on the other
streams; a codec frame occupies all of them. One id space serves every stream:

    [0, 256)                                 specials, named below, the rest unused
    [256, 256 + text_size)                   text, the text tokenizer's id shifted by 256
    256 + text_size + (K+1)·s                pad of codec stream s, K = codebook_size
    256 + text_size + (K+1)·s + 1 + c        code c of codec stream s
"""

import dataclasses

import numpy as np

NUM_SPECIALS = 256

PAD, BOS, EOS, EOT = 0, 1, 2, 3
SYSTEM, USER, ASSISTANT = 4, 5, 6
TEXT, AUDIO, IMAGE, VIDEO, TOOLCALL = 7, 8, 9, 10, 11

SPECIAL_NAMES = (
    "<|pad|>", "<|bos|>", "<|eos|>", "<|eot|>", "<|system|>", "<|user|>", "<|assistant|>",
    "<|text|>", "<|audio|>", "<|image|>", "<|video|>", "<|toolcall|>",
)  # fmt: skip

CODEC_CLASS_WEIGHT = 0.125
"""Loss weight of every codec id; all other ids weigh 1 (docs/reference.md, Class weights)."""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Id ranges of one model. The defaults are those of the 8B release.

    Attributes:
        text_size: rows reserved for text, padding rows of the tokenizer included.
        codebook_size: K, codes per codec stream.
        num_streams: S, codec streams.
    """

    text_size: int = 151_936
    codebook_size: int = 1024
    num_streams: int = 8

    @property
    def text_start(self) -> int:
        return NUM_SPECIALS

    @property
    def codec_start(self) -> int:
        return NUM_SPECIALS + self.text_size

    @property
    def stream_size(self) -> int:
        """Ids per codec stream: one pad and K codes."""
        return self.codebook_size + 1

    @property
    def codec_size(self) -> int:
        """Ids of all codec streams, the softmax width of streams 1 to S-1."""
        return self.num_streams * self.stream_size

    @property
    def size(self) -> int:
        """V, all ids."""
        return self.codec_start + self.codec_size

    def stream_pads(self) -> np.ndarray:
        """The pad id of every stream, int32 [S]."""
        return self.codec_start + self.stream_size * np.arange(self.num_streams, dtype=np.int32)

    def text_to_ids(self, text_ids: np.ndarray) -> np.ndarray:
        """Tokenizer ids [n] to model ids [n]. Raises ValueError outside [0, text_size)."""
        return _integers("text id", text_ids, self.text_size) + self.text_start

    def ids_to_text(self, ids: np.ndarray) -> np.ndarray:
        """Model ids to tokenizer ids; ids that are no text are dropped."""
        ids = np.asarray(ids, np.int32)
        return ids[(ids >= self.text_start) & (ids < self.codec_start)] - self.text_start

    def codes_to_ids(self, codes: np.ndarray) -> np.ndarray:
        """Codes [N, S] in [0, K) to model ids [N, S]. Raises ValueError outside that range."""
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != self.num_streams:
            raise ValueError(f"codes must be [N, {self.num_streams}], got {list(codes.shape)}")
        return _integers("code", codes, self.codebook_size) + self.stream_pads() + 1

    def ids_to_codes(self, ids: np.ndarray) -> np.ndarray:
        """Model ids [N, S] to codes [N, S]; pads and foreign ids clip to the nearest valid code."""
        return np.clip(np.asarray(ids, np.int32) - self.stream_pads() - 1, 0, self.codebook_size - 1)

    def describe(self, token: int) -> str:
        """A readable name of one id, as the release's tokenizer writes it, e.g. `<codec_layer0_code17>`."""
        if token < len(SPECIAL_NAMES):
            return SPECIAL_NAMES[token]
        if token < self.text_start:
            return f"<|unused_{token}|>"
        if token < self.codec_start:
            return f"text:{token - self.text_start}"
        stream, code = divmod(token - self.codec_start, self.stream_size)
        return f"<codec_layer{stream}_{'pad' if code == 0 else f'code{code - 1}'}>"


def _integers(what: str, values: np.ndarray, limit: int) -> np.ndarray:
    """The values as int32, checked before they are cut to it. Raises ValueError: no integers, or out of range."""
    values = np.asarray(values)
    if values.size and values.dtype.kind not in "iu":
        raise ValueError(f"a {what} must be an integer, got {values.dtype}")
    if values.size and (values.min() < 0 or values.max() >= limit):
        bad = values.min() if values.min() < 0 else values.max()
        raise ValueError(f"{what} {bad} is outside [0, {limit})")
    return values.astype(np.int32, copy=False)
