"""Packed causal attention by the name of its kernel.

A kernel that cannot run where it is asked to is an error, never a fall-back.
"""

import functools
import logging
from collections.abc import Callable
from importlib.util import find_spec

from bagpiper_jax.models.attention import gpu, splash, xla
from bagpiper_jax.models.attention.sharding import KernelError, Key, Query, Segments, require_platform

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


PLATFORMS = {"splash": "tpu", "mosaic": "gpu", "triton": "gpu", "cudnn": "gpu"}
"""What the kernels are made for that do not run anywhere."""


def require_kernel(name: str) -> None:
    """Raises KernelError where a kernel cannot run on the devices compiled for, before anything is compiled."""
    if name in PLATFORMS:
        require_platform(name, PLATFORMS[name])
    if name in ("mosaic", "triton") and find_spec("tokamax") is None:
        raise KernelError(gpu.needs_tokamax(name))
