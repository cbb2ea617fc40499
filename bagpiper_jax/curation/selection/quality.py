"""What decides about one caption: its tags, hard filters and score (docs/reference.md, Caption selection)."""

import dataclasses
import math
from collections.abc import Mapping

from bagpiper_jax.outcomes import RecordError

AUDIO_TYPES = {"speech": "speech", "music": "music", "sound_effects": "sound"}
"""Values of the tag `audio_type` and the domains they stand for."""

PUBLISHED_WEIGHTS = {
    "intelligibility": 0.0667,
    "complexity": 0.0667,
    "diversity": 0.0667,
    "mos_mean": 0.2,
    "clap_similarity": 1.0,
    "aesthetics_mean": 0.1,
}


def passed_over(domain: str) -> str:
    """The metric that says nothing about a domain: speech skips aesthetics, all else skips MOS."""
    return "aesthetics_mean" if domain == "speech" else "mos_mean"


@dataclasses.dataclass(frozen=True)
class CaptionScore:
    """How good a clip is as an example, by its `metrics`; the weights are the published ones.

    Attributes:
        weights: the weight of each metric in the score Σ weight · metric. Metrics with a minimum do not count, nor does
            the metric that says nothing about the domain.
        required: the tags that must be true.
        minimums: the least value of each metric that is a hard filter; a clip below it is dropped.
    """

    weights: dict[str, float] = dataclasses.field(default_factory=lambda: dict(PUBLISHED_WEIGHTS))
    required: tuple[str, ...] = ("is_pure_english", "is_audio_focused")
    minimums: dict[str, float] = dataclasses.field(default_factory=dict)

    def domain(self, metrics: Mapping, stated: str) -> str:
        """The domain that the tag `audio_type` tells, else the stated one. Raises RecordError `bad_audio_type`."""
        kind = metrics.get("audio_type")
        if kind is None:
            return stated
        if kind not in AUDIO_TYPES:
            raise RecordError(
                "bad_audio_type", f"audio_type {kind!r}", f"use one of {', '.join(AUDIO_TYPES)}"
            )
        return AUDIO_TYPES[kind]

    def require(self, metrics: Mapping, domain: str) -> None:
        """Raises RecordError `no_<metric>`, `bad_<metric>`, `not_<tag>` or `low_<metric>`: what a clip fails by."""
        for tag in self.required:
            if _value(metrics, tag) is not True:
                raise RecordError(
                    f"not_{tag}", f"{tag} is {metrics[tag]!r}", "take the tag out of `required`"
                )
        for name, least in self.minimums.items():
            if name != passed_over(domain) and (value := _number(metrics, name)) < least:
                raise RecordError(f"low_{name}", f"{value:g} is below {least:g}", "lower its minimum")

    def score(self, metrics: Mapping, domain: str) -> float:
        """The weighted sum. Raises RecordError `no_<metric>` or `bad_<metric>`."""
        counted = [name for name in self.weights if name not in self.minimums and name != passed_over(domain)]
        return sum(self.weights[name] * _number(metrics, name) for name in counted)


def _value(metrics: Mapping, name: str):
    if metrics.get(name) is None:
        remedy = "run tag_captions or score_captions, or take it out of CaptionScore"
        raise RecordError(f"no_{name}", f"the clip's metrics lack {name}", remedy)
    return metrics[name]


def _number(metrics: Mapping, name: str) -> float:
    value = _value(metrics, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecordError(f"bad_{name}", f"{name} is {value!r}", "give a finite number")
    return float(value)
