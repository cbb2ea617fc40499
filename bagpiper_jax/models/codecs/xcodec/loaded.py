"""An X-Codec with its parameters, as everything outside this folder uses it."""

import functools
from collections.abc import Sequence

import numpy as np

from bagpiper_jax.models.codecs.protocol import Codes, Waveform
from bagpiper_jax.models.codecs.xcodec import functional, storage
from bagpiper_jax.models.codecs.xcodec.acoustic import context_frames
from bagpiper_jax.models.codecs.xcodec.batches import BatchEncoder
from bagpiper_jax.models.configs import CodecConfig
from bagpiper_jax.models.parameters import Parameters

_DECODED_AT_ONCE = 8


class LoadedXCodec:
    """Parameters and sizes of an X-Codec as a `Codec`."""

    def __init__(self, parameters: Parameters, config: CodecConfig):
        self._parameters, self._config = parameters, config
        self._encoder = functools.lru_cache(maxsize=1)(functools.partial(BatchEncoder, parameters, config))

    @property
    def sample_rate(self) -> int:
        return self._config.sample_rate

    @property
    def hop(self) -> int:
        return self._config.hop

    @property
    def codebooks(self) -> tuple[int, ...]:
        return (self._config.codebook_size,) * self._config.num_codebooks

    @property
    def context(self) -> int:
        return context_frames(self._config.strides)

    @functools.cached_property
    def fingerprint(self) -> str:
        return storage.fingerprint(self._parameters, self._config)

    def encode(self, waveforms: Sequence[Waveform], batch_seconds: float = 0.0) -> list[Codes]:
        if batch_seconds:
            return self._encoder(batch_seconds)(waveforms)
        frames = [len(waveform) // self.hop for waveform in waveforms]
        # All at one shape, so that one program is compiled.
        padded = np.zeros((1, functional.bucket(max(frames, default=0)) * self.hop), np.float32)
        found = []
        for waveform, count in zip(waveforms, frames, strict=True):
            length = count * self.hop
            padded[0, :length], padded[0, length:] = waveform[:length], 0
            codes = functional.encode(self._parameters, self._config, padded.copy(), np.array([length]))
            found.append(np.asarray(codes)[0, :count])
        return found

    def decode(self, codes: Sequence[Codes]) -> list[Waveform]:
        clips = [self._checked(np.asarray(clip)) for clip in codes]
        frames = functional.bucket(max((len(clip) for clip in clips), default=0))
        rows, found = min(_DECODED_AT_ONCE, len(clips)), []
        for start in range(0, len(clips), max(rows, 1)):
            part = clips[start : start + rows]
            padded = np.zeros((rows, frames, len(self.codebooks)), np.int32)
            lengths = np.zeros(rows, np.int32)
            for row, clip in enumerate(part):
                padded[row, : len(clip)], lengths[row] = clip, len(clip)
            waves = np.asarray(functional.decode(self._parameters, self._config, padded, lengths))
            found += [np.clip(waves[row, : len(clip) * self.hop], -1, 1) for row, clip in enumerate(part)]
        return found

    def _checked(self, codes: np.ndarray) -> Codes:
        size, books = self._config.codebook_size, self._config.num_codebooks
        if codes.ndim != 2 or codes.shape[1] != books:
            raise ValueError(f"codes must be [N, {books}], got {list(codes.shape)}")
        if codes.size and (codes.min() < 0 or codes.max() >= size):
            raise ValueError(f"codes must lie in [0, {size}), got {codes.min()} to {codes.max()}")
        return codes
