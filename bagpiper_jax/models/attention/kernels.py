"""Packed causal attention by the name of its kernel.

A kernel that cannot run where it is asked to is an error, never a fall-back.
"""

import functools
import logging
from collections.abc import Callable

from bagpiper_jax.models.attention import gpu, splash, xla
from bagpiper_jax.models.attention.sharding import Key, Query, Segments

logger = logging.getLogger(__name__)

KERNELS: dict[str, Callable[[Query, Key, Key, Segments], Query]] = {
    "dot_product": xla.dot_product,
    "splash": splash.splash,
    "mosaic": functools.partial(gpu.tokamax, implementation="mosaic"),
    "triton": functools.partial(gpu.tokamax, implementation="triton"),
    "cudnn": gpu.cudnn,
}


@functools.cache
def kernel(name: str) -> Callable[[Query, Key, Key, Segments], Query]:
    """Packed causal attention of that name: query [B,T,H,K], key and value [B,T,KV,K], segment_ids [B,T] → [B,T,H,K].

    Logged once. ValueError for an unknown name.
    """
    if name not in KERNELS:
        raise ValueError(f"unknown attention kernel {name!r}; choose one of {sorted(KERNELS)}")
    logger.info("decoder attention kernel: %s", name)
    return KERNELS[name]
