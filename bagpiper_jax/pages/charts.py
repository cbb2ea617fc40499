"""Lines over steps, measured out for the SVG of `parts.html.j2`."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Float

_TICKS = 4

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class LineChart:
    """A chart with all its places in pixels.

    Attributes:
        width, height: of the picture.
        left, right, top, bottom: edges of the plane that lines are drawn in.
        title: its caption.
        levels: (y, value) of every horizontal grid line.
        steps: (x, step) below the plane.
        references: (y, label) of dashed lines.
        lines: name → its points (x, y).
    """

    width: ClassVar[int] = 560
    height: ClassVar[int] = 260
    left: ClassVar[int] = 46
    right: ClassVar[int] = 548
    top: ClassVar[int] = 18
    bottom: ClassVar[int] = 234

    title: str
    levels: tuple[Point, ...]
    steps: tuple[Point, ...]
    references: tuple[tuple[float, str], ...]
    lines: Mapping[str, Sequence[Point]]


def line_chart(
    title: str, series: Mapping[str, Sequence[Point]], reference: Mapping[str, float] | None = None
) -> LineChart | None:
    """Measures out a chart; None where there is nothing to draw.

    Args:
        title: the caption.
        series: name → (step, value) points; points that are not finite are left out.
        reference: name → value of horizontal dashed lines.
    """
    reference = reference or {}
    lines = {name: [p for p in points if math.isfinite(p[1])] for name, points in series.items()}
    points = [point for line in lines.values() for point in line]
    if not points:
        return None
    last = max(x for x, _ in points) or 1
    values = [y for _, y in points] + list(reference.values())
    low, high, ticks = _axis(min(values), max(values))

    def x_of(step: float) -> float:
        return LineChart.left + (LineChart.right - LineChart.left) * step / last

    def y_of(value: float) -> float:
        return LineChart.top + (LineChart.bottom - LineChart.top) * (high - value) / (high - low)

    return LineChart(
        title,
        levels=tuple((y_of(tick), tick) for tick in ticks),
        steps=tuple((x_of(last * i / _TICKS), last * i / _TICKS) for i in range(_TICKS + 1)),
        references=tuple((y_of(value), f"{name} {value:.2f}") for name, value in reference.items()),
        lines={name: [(x_of(x), y_of(y)) for x, y in _thinned(line)] for name, line in lines.items()},
    )


def _axis(low: float, high: float) -> tuple[float, float, list[float]]:
    """Round limits around [low, high] and the ticks between them."""
    span = (high - low) or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / _TICKS))
    step *= next(m for m in (1, 2, 2.5, 5, 10) if span / (step * m) <= _TICKS + 1)
    first, last = math.floor(low / step), math.ceil(high / step)
    ticks = [round(step * i, 10) for i in range(first, last + 1)]
    return ticks[0], ticks[-1] if len(ticks) > 1 else ticks[0] + step, ticks


def _thinned(line: Sequence[Point], most: int = 400) -> Float[np.ndarray, "n 2"]:
    """At most `most` points, each the mean of its neighbours, so that the page stays small."""
    values = np.asarray(line, np.float64)
    if len(values) <= most:
        return values
    return np.stack([part.mean(axis=0) for part in np.array_split(values, most)])
