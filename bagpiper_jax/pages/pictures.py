"""Pictures within a page: sound, features and codes as palette PNGs."""

import base64
import struct
import zlib

import numpy as np
from jaxtyping import Float32, UInt8

from bagpiper_jax.audio import HOP, log_mel

_PALETTE_STOPS = ((0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21),
                  (250, 193, 39), (252, 255, 164))  # fmt: skip
_FLOOR_DB = 70.0
_FFT = 512
_SILENCE = 1e-6  # power; what is weaker is dark, also where nothing is louder


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


def mel_spectrogram(samples: Float32[np.ndarray, "samples"]) -> bytes:
    """A 16 kHz waveform's log-mel spectrogram as PNG, low frequencies at the bottom, 10 ms per pixel.

    The features are those that the audio tower is given, so that the picture shows what the model can hear.
    """
    if len(samples) < 400:
        return png(np.zeros((128, 1), np.uint8))
    # log_mel gives (log10 power + 4) / 4; a unit is 40 dB.
    mel = log_mel(np.asarray(samples, np.float32))
    level = (mel - mel.max()) * 40 / _FLOOR_DB + 1
    return png((np.clip(level, 0, 1) * 255).astype(np.uint8).T[::-1])


def spectrogram(samples: Float32[np.ndarray, "samples"]) -> bytes:
    """Power over linear frequency, 0 to 8 kHz, of a 16 kHz waveform, 10 ms per pixel, 70 dB from dark to bright."""
    import librosa

    padded = np.pad(np.asarray(samples, np.float32), _FFT // 2)
    spectrum = librosa.stft(padded, n_fft=_FFT, hop_length=HOP, center=False)
    power = np.abs(spectrum) ** 2
    decibels = librosa.power_to_db(power, ref=max(power.max(), _SILENCE), amin=1e-12, top_db=None)
    return png((255 * np.clip(decibels / _FLOOR_DB + 1, 0, 1)).astype(np.uint8)[::-1])


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as a `data:` address of MIME type `kind`."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
