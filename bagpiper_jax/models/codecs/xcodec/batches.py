"""Many waveforms of different lengths through the encoder: few fixed shapes, data parallel, one batch ahead."""

import collections
import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from bagpiper_jax.models.codecs.xcodec import functional
from bagpiper_jax.models.configs import CodecConfig
from bagpiper_jax.models.parameters import Parameters

_CONCURRENT_BUCKETS = 2  # so that one shape compiles while another one runs


class BatchEncoder:
    """Waveforms of any lengths → codes, in few fixed shapes, data parallel over all local devices."""

    def __init__(self, parameters: Parameters, config: CodecConfig, batch_seconds: float):
        devices = jax.local_devices()
        mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
        self._rows = NamedSharding(mesh, P("data"))
        self._parameters = jax.device_put(dict(parameters), NamedSharding(mesh, P()))
        self._config, self._devices = config, len(devices)
        self._batch_frames = batch_seconds * config.sample_rate / config.hop

    def __call__(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes uint16 [N, S] of each waveform of at least one frame, in order."""
        buckets = collections.defaultdict(list)
        for index, waveform in enumerate(waveforms):
            buckets[functional.bucket(len(waveform) // self._config.hop)].append(index)
        found: dict[int, np.ndarray] = {}
        with ThreadPoolExecutor(_CONCURRENT_BUCKETS) as pool:
            encode = functools.partial(self._encode_bucket, waveforms=waveforms, found=found)
            list(pool.map(encode, *zip(*sorted(buckets.items()), strict=True)) if buckets else ())
        return [found[index] for index in range(len(waveforms))]

    def _encode_bucket(self, frames: int, members: list[int], waveforms, found: dict) -> None:
        rows = self._devices * max(1, int(self._batch_frames // frames))
        pending = None
        for start in range(0, len(members), rows):
            batch = members[start : start + rows]
            running = batch, self._start(frames, rows, [waveforms[i] for i in batch])
            if pending is not None:  # the device works on one batch while the last one is taken apart
                self._collect(pending[0], pending[1], waveforms, found)
            pending = running
        if pending is not None:
            self._collect(pending[0], pending[1], waveforms, found)

    def _start(self, frames: int, rows: int, waveforms: Sequence[np.ndarray]) -> jax.Array:
        padded = np.zeros((rows, frames * self._config.hop), np.float32)
        lengths = np.zeros(rows, np.int32)
        for row, waveform in enumerate(waveforms):
            kept = len(waveform) // self._config.hop * self._config.hop
            padded[row, :kept], lengths[row] = waveform[:kept], kept
        batch = jax.device_put((padded, lengths), self._rows)
        return functional.encode(self._parameters, self._config, *batch)

    def _collect(self, members, codes, waveforms, found) -> None:
        for row, index in zip(np.asarray(codes).astype(np.uint16), members, strict=False):
            found[index] = row[: len(waveforms[index]) // self._config.hop]
