"""DNSMOS: which windows of a clip are judged, and what the networks' outputs mean as opinion scores, 1 to 5.

P.835 judges the whole (OVRL), the signal (SIG) and the background (BAK), and P.808 the speech as one; clean speech
comes to about 3.3 in OVRL and 4 in P.808. The personalised variant is some 0.9 higher in OVRL: always name the variant.
Facts are those of Microsoft's DNS challenge, as the package speechmos has them.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32

RATE = 16_000
SECONDS = 9.01
WINDOW = int(SECONDS * RATE)
POLYNOMIALS: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "dnsmos": {
        "sig": (-0.08397278, 1.22083953, 0.0052439),
        "bak": (-0.13166888, 1.60915514, -0.39604546),
        "ovrl": (-0.06766283, 1.11546468, 0.04602535),
    },
    "dnsmos_personalized": {
        "sig": (-0.01019296, 0.02751166, 1.19576786, -0.24348726),
        "bak": (-0.04976499, 0.44276479, -0.1644611, 0.96883132),
        "ovrl": (-0.00533021, 0.005101, 1.18058466, -0.11236046),
    },
}
"""Variant → what the three outputs of its network are, in their order → coefficients, the highest power first."""


def doubled(samples: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, " samples"]:
    """A clip of less than 9.01 s, doubled until it is as long: 4 s become 16 s. Raises ValueError: it is empty."""
    if not len(samples):
        raise ValueError("there is no sample to repeat")
    while len(samples) < WINDOW:
        samples = np.concatenate([samples, samples])
    return samples


def starts(samples: int) -> list[int]:
    """Where the windows begin that are judged in a clip of at least 9.01 s: every second, while a whole one is left.

    The official script computes the end of a window in floating point; from the eighth to the twenty-fourth it comes
    out one sample too early, and windows that are not whole are skipped. So of a clip of 16 to 33 s the first 15 s are
    heard, and no more. It is done here as well, since published values are made so.
    """
    hops = int(np.floor(samples / RATE) - SECONDS) + 1
    ends = (min(int((hop + SECONDS) * RATE), samples) for hop in range(hops))
    return [hop * RATE for hop, end in enumerate(ends) if end - hop * RATE >= WINDOW]


def opinions(outputs: Float32[np.ndarray, "windows 3"], variant: str = "dnsmos") -> dict[str, float]:
    """The mean opinion of a clip by "sig", "bak" and "ovrl": the polynomial of each window, then the mean."""
    polynomials = POLYNOMIALS[variant].items()
    return {
        name: float(np.polyval(coefficients, outputs[:, column]).mean())
        for column, (name, coefficients) in enumerate(polynomials)
    }
