"""What a chip can do, and the slices of chips that runs are sized for. Published figures only.

| chip | figures from |
|---|---|
| TPU v4 | docs.cloud.google.com/tpu/docs/v4; all-reduce per pod / 4096 chips = 269 GB/s over its links |
| TPU v5e | docs.cloud.google.com/tpu/docs/v5e; ICI 400 GB/s in both directions, pod DCN 6.4 Tb/s / 256 chips |
| TPU v5p | docs.cloud.google.com/tpu/docs/v5p; ICI 1200 GB/s in both directions, DCN 50 Gb/s per chip |
| TPU v6e | docs.cloud.google.com/tpu/docs/v6e; ICI 800 GB/s in both directions, four 200 Gb/s NICs per 8 chips |
| H100, H200 | NVIDIA's data sheets of the SXM modules (dense bfloat16); NVLink 900 GB/s in both directions |

TPU memory is what the compiler may use, which is a little less than the data sheet says.

Prices are list prices on demand in the United States, as quoted in 2026, and they change: cloud.google.com/tpu/pricing
for TPUs, an eighth of AWS's p5.48xlarge and p5en.48xlarge for H100 and H200. Commitments, spot machines and other
clouds cost less.
"""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Chip:
    """One accelerator.

    Attributes:
        flops: bfloat16 FLOP/s at peak.
        hbm_gib, hbm_bandwidth: memory in GiB, and bytes/s.
        ici_bandwidth: bytes/s that it can send to the others of its slice, over all links.
        dcn_bandwidth: bytes/s that it can send to other slices; None where nothing is published.
        price: US dollars for an hour.
    """

    flops: float
    hbm_gib: float
    hbm_bandwidth: float
    ici_bandwidth: float
    dcn_bandwidth: float | None
    price: float


CHIPS = {
    "TPU v4": Chip(275e12, 30.75, 1.2e12, 270e9, None, 3.22),
    "TPU v5 lite": Chip(197e12, 15.75, 819e9, 200e9, 3.125e9, 1.20),
    "TPU v5": Chip(459e12, 95.0, 2.765e12, 600e9, 6.25e9, 4.20),
    "TPU v6 lite": Chip(918e12, 31.25, 1.638e12, 400e9, 12.5e9, 2.70),
    "NVIDIA H100": Chip(989e12, 79.0, 3.35e12, 450e9, None, 6.88),
    "NVIDIA H200": Chip(989e12, 139.0, 4.8e12, 450e9, None, 7.91),
}
"""By the beginning of JAX's device kind."""


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips that one run takes.

    Attributes:
        kind: key of `CHIPS`.
        chips: the number of chips of all slices together.
        topology: libtpu's name of one slice's topology, "" for GPUs.
        slices: joined by the data center's network.
    """

    kind: str
    chips: int
    topology: str = ""
    slices: int = 1

    @property
    def torus(self) -> tuple[bool, ...]:
        """Of a v4 or v5p that is made of whole cubes of 4x4x4: that every axis is closed to a ring; else nothing.

        A topology's name does not say it, and a compiler that is not told plans for links of half the bandwidth.
        """
        lengths = [int(length) for length in self.topology.partition(":")[2].split("x") if length]
        return (True,) * 3 if len(lengths) == 3 and all(length % 4 == 0 for length in lengths) else ()


SLICES = {
    "v4-128": Slice("TPU v4", 64, "v4:4x4x4"),
    "v5e-8": Slice("TPU v5 lite", 8, "v5e:2x4"),
    "v5e-16": Slice("TPU v5 lite", 16, "v5e:4x4"),
    "v5e-256": Slice("TPU v5 lite", 256, "v5e:16x16"),
    "v5p-8": Slice("TPU v5", 4, "v5p:2x2x1"),
    "v5p-128": Slice("TPU v5", 64, "v5p:4x4x4"),
    "v5p-512": Slice("TPU v5", 256, "v5p:4x8x8"),
    "v6e-8": Slice("TPU v6 lite", 8, "v6e:2x4"),
    "v6e-256": Slice("TPU v6 lite", 256, "v6e:16x16"),
    "2xv6e-256": Slice("TPU v6 lite", 512, "v6e:16x16", slices=2),
    "h100": Slice("NVIDIA H100", 1),
    "8xh100": Slice("NVIDIA H100", 8),
    "h200": Slice("NVIDIA H200", 1),
}
"""By name. Clouds count TensorCores in "v4" and "v5p", two per chip, and chips in "v5e" and "v6e"."""

_KINDS = {"v4": "TPU v4", "v5e": "TPU v5 lite", "v5p": "TPU v5", "v6e": "TPU v6 lite"}


def find_slice(name: str) -> Slice:
    """The slice of a name in `SLICES`, or of libtpu's own form, e.g. "v5e:4x4" or "2xv5e:4x4".

    Raises:
        ValueError: it is neither.
    """
    if name in SLICES:
        return SLICES[name]
    form = re.fullmatch(r"(?:(\d+)x)?((v\w+):(\d+)x(\d+)(?:x(\d+))?)", name)
    if not form or form[3] not in _KINDS:
        raise ValueError(
            f"unknown slice {name!r}; known: {', '.join(SLICES)}, and topologies as v5e:4x4, v5p:2x2x2, 2xv6e:4x4"
        )
    slices, a, b, c = (int(x or 1) for x in form.group(1, 4, 5, 6))
    return Slice(_KINDS[form[3]], slices * a * b * c, form[2], slices)


def chip_of(device_kind: str) -> Chip | None:
    """The figures of a device by its JAX kind; None where none are known, as on a CPU."""
    # The longest name first: "TPU v5 lite" begins as "TPU v5" does, which is a v5p.
    for name in sorted(CHIPS, key=len, reverse=True):
        if device_kind.startswith(name):
            return CHIPS[name]
    return None
