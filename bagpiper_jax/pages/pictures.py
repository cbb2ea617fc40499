"""Pictures for the report, drawn by hand: spectrograms as palette PNGs and line charts as inline SVG."""

import base64
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from jaxtyping import Float, Float32, UInt8

from bagpiper_jax.audio import encode_flac, log_mel

_PALETTE_STOPS = ((0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21),
                  (250, 193, 39), (252, 255, 164))  # fmt: skip
_FLOOR_DB = 70.0
_TICKS = 4
_COLOURS = 8  # in report.css


def png(
    pixels: UInt8[np.ndarray, "height width"], palette: UInt8[np.ndarray, "256 3"] | None = None
) -> bytes:
    """Palette indices to a PNG file, dark to bright; with a palette of its own, index 0 is transparent."""
    height, width = pixels.shape
    raw = np.zeros((height, width + 1), np.uint8)  # a leading 0 per line: no filter
    raw[:, 1:] = pixels
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    body = zlib.compress(raw.tobytes(), 9)
    colours = heat_palette() if palette is None else palette
    clear = [] if palette is None else [(b"tRNS", b"\0")]
    chunks = [(b"IHDR", header), (b"PLTE", colours.tobytes()), *clear, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def heat_palette() -> UInt8[np.ndarray, "256 3"]:
    """From black over red to light yellow."""
    stops, at = np.array(_PALETTE_STOPS, np.float64), np.linspace(0, 1, len(_PALETTE_STOPS))
    grid = np.linspace(0, 1, 256)
    return np.stack([np.interp(grid, at, stops[:, c]) for c in range(3)], axis=1).round().astype(np.uint8)


def spectrogram(samples: Float32[np.ndarray, "samples"]) -> bytes:
    """A 16 kHz waveform's log-mel spectrogram as PNG, low frequencies at the bottom, 10 ms per pixel."""
    if len(samples) < 400:
        return png(np.zeros((128, 1), np.uint8))
    # log_mel gives (log10 power + 4) / 4; a unit is 40 dB.
    mel = log_mel(np.asarray(samples, np.float32))
    level = (mel - mel.max()) * 40 / _FLOOR_DB + 1
    return png((np.clip(level, 0, 1) * 255).astype(np.uint8).T[::-1])


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as a `data:` address of MIME type `kind`."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def figure(samples: Float32[np.ndarray, "samples"], label: str, audible: bool = True) -> str:
    """A waveform as spectrogram and, if `audible`, audio player, both within the page."""
    picture = data_uri(spectrogram(samples), "image/png")
    name = escape(label, quote=True)
    return (
        f'<figure><img src="{picture}" alt="Spectrogram: {name}">{player(samples, label) if audible else ""}'
        f"<figcaption>{escape(label)} <small>{len(samples) / 16000:.1f} s</small></figcaption></figure>"
    )


def player(samples: Float32[np.ndarray, "samples"], label: str) -> str:
    """An audio player with a 16 kHz waveform in it, as FLAC."""
    name = escape(label, quote=True)
    sound = data_uri(encode_flac(np.clip(samples, -1, 1).astype(np.float32)), "audio/flac")
    return f'<audio controls preload="metadata" src="{sound}" aria-label="{name}"></audio>'


def line_chart(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    reference: Mapping[str, float] | None = None,
) -> str:
    """Lines over steps as an SVG figure.

    Args:
        title: the caption.
        series: name → (step, value) points; points that are not finite are left out.
        reference: name → value of horizontal dashed lines.
    """
    width, height, left, right, top, bottom = 560, 260, 46, 12, 12, 26
    reference = reference or {}
    lines = {name: [p for p in points if math.isfinite(p[1])] for name, points in series.items()}
    points = [point for line in lines.values() for point in line]
    if not points:
        return ""
    last = max(x for x, _ in points) or 1
    values = [y for _, y in points] + list(reference.values())
    low, high, ticks = _axis(min(values), max(values))

    def x_of(step: float) -> float:
        return left + (width - left - right) * step / last

    def y_of(value: float) -> float:
        return top + (height - top - bottom) * (high - value) / (high - low)

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title, quote=True)}">']
    for tick in ticks:
        y = y_of(tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for i in range(_TICKS + 1):
        step = last * i / _TICKS
        anchor = "end" if i == _TICKS else "middle" if i else "start"
        parts.append(f'<text x="{x_of(step):.1f}" y="{height - 6}" text-anchor="{anchor}">{step:,.0f}</text>')
    for name, value in reference.items():
        y = y_of(value)
        parts.append(f'<line class="reference" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = escape(f"{name} {value:.2f}")
        parts.append(f'<text x="{width - right}" y="{y - 5:.1f}" text-anchor="end">{label}</text>')
    for number, line in enumerate(lines.values()):
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in _thinned(line))
        parts.append(f'<polyline class="line c{number % _COLOURS}" points="{path}"/>')
    keys = "".join(
        f'<span class="key c{number % _COLOURS}">{escape(name)}</span>' for number, name in enumerate(lines)
    )
    return f'<figure class="chart">{"".join(parts)}</svg><figcaption>{escape(title)} {keys}</figcaption></figure>'


def _axis(low: float, high: float) -> tuple[float, float, list[float]]:
    """Round limits around [low, high] and the ticks between them."""
    span = (high - low) or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / _TICKS))
    step *= next(m for m in (1, 2, 2.5, 5, 10) if span / (step * m) <= _TICKS + 1)
    first, last = math.floor(low / step), math.ceil(high / step)
    ticks = [round(step * i, 10) for i in range(first, last + 1)]
    return ticks[0], ticks[-1] if len(ticks) > 1 else ticks[0] + step, ticks


def _thinned(line: Sequence[tuple[float, float]], most: int = 400) -> Float[np.ndarray, "n 2"]:
    """At most `most` points, each the mean of its neighbours, so that the page stays small."""
    values = np.asarray(line, np.float64)
    if len(values) <= most:
        return values
    return np.stack([part.mean(axis=0) for part in np.array_split(values, most)])
