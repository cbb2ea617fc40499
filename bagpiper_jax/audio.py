"""Reading, resampling, log-mel features and writing of audio; frame and token counts.

numpy alone is needed to import this module, and scipy, which JAX brings, to compute `log_mel`; soundfile, soxr,
miniaudio and av are loaded where they are used.
"""

import functools
import io
import logging
import math
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int16

from bagpiper_jax.errors import Explained

logger = logging.getLogger(__name__)

SAMPLE_RATE = 16_000
MAX_SECONDS = 30.0
MIN_SECONDS = 0.02
HOP = 160
FFT_SIZE = 400
MEL_BINS = 128
CHUNK_FRAMES = 100
CHUNK_TOKENS = 13
_FFT_BLOCK = 256  # frames whose spectra stay in the cache of a core

REMEDIES = {
    "missing": "check the path",
    "corrupt": "re-encode the file, or install `av` for containers that only ffmpeg reads",
    "empty": "remove the record",
    "not_finite": "remove NaN and infinity from the samples",
    "too_long": "cut the recording into pieces",
    "too_short": "remove the record, or pad it with silence",
}

# What PyAV may open. Playlists and concat scripts stay out: they make ffmpeg open other files and addresses.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,asf,aac,ac3,eac3,amr,mp3,mpeg,mpegts,ogg,wav,w64,aiff,caf,flac,"
    "ape,wv,flv,avi"
)


class AudioError(Explained, ValueError):
    """Audio that cannot be used.

    Attributes:
        reason: one of `REMEDIES`, for counting rejections.
        path: the file, or "<bytes>".
        detail: a description of what was found.
    """

    def __init__(self, reason: str, path: object, detail: str):
        super().__init__(f"{path}: {reason}: {detail}; {REMEDIES[reason]}")
        self.reason, self.path, self.detail = reason, str(path), detail


def mel_frames(num_samples: int) -> int:
    """F, mel frames of a 16 kHz waveform (docs/reference.md, Log-mel features)."""
    return num_samples // HOP


def tower_tokens(frames: int) -> int:
    """Tower outputs of F mel frames: 13 per full chunk of 100, plus the tail's (docs/reference.md, Audio tower)."""
    full, tail = divmod(frames, CHUNK_FRAMES)
    for _ in range(3):
        tail = (tail + 1) // 2
    return CHUNK_TOKENS * full + tail


def read(
    source: str | os.PathLike | bytes,
    sample_rate: int = SAMPLE_RATE,
    max_seconds: float = MAX_SECONDS,
    min_seconds: float = MIN_SECONDS,
) -> Float32[np.ndarray, "samples"]:
    """Reads the first channel of any audio file, resampled (docs/reference.md, Log-mel features).

    The format is found from the content, never from the name. libsndfile is tried first, then ffmpeg's
    libraries if `av` is installed. Length is checked against the header before anything is decoded. The
    resampler is soxr (HQ), where the reference uses torchaudio's sinc.

    Args:
        source: a path, or the bytes of a file.
        max_seconds, min_seconds: accepted length, inclusive; the maximum is the published filter's
            (docs/reference.md, Rich captions).

    Raises:
        AudioError: with `reason` missing, corrupt, empty, not_finite, too_long or too_short.
    """
    name = "<bytes>" if isinstance(source, bytes) else os.fspath(source)
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise AudioError("missing", name, "no such file")
    if not (len(source) if isinstance(source, bytes) else os.path.getsize(source)):
        raise AudioError("empty", name, "the file has no bytes")
    samples, rate = _decode(source, name, max_seconds)
    if not samples.size:
        raise AudioError("empty", name, "the file has no samples")
    if not np.isfinite(samples).all():
        raise AudioError(
            "not_finite", name, f"{np.count_nonzero(~np.isfinite(samples))} samples are NaN or infinite"
        )
    seconds = len(samples) / rate
    if seconds < min_seconds:
        raise AudioError("too_short", name, f"{seconds:.3f} s is below {min_seconds:g} s")
    return resample(samples, rate, sample_rate)


def resample(
    samples: Float32[np.ndarray, "n"], source_rate: float, target_rate: float
) -> Float32[np.ndarray, "m"]:
    """Resamples a waveform; equal rates return it as it is."""
    if source_rate == target_rate:
        return samples
    import soxr

    return soxr.resample(samples, source_rate, target_rate, quality="HQ").astype(np.float32, copy=False)


def _decode(source, name: str, max_seconds: float) -> tuple[np.ndarray, int]:
    import soundfile

    try:
        with _opened(source) as stream, soundfile.SoundFile(stream) as file:
            _require_length(file.frames / file.samplerate, max_seconds, name)
            return _read_soundfile(file, name, max_seconds), file.samplerate
    except soundfile.LibsndfileError as error:
        return _decode_with_av(source, name, max_seconds, str(error))


def _opened(source):
    # Opening by descriptor hides the name, lest a reader judge the file by its extension.
    return io.BytesIO(source) if isinstance(source, bytes) else open(os.open(source, os.O_RDONLY), "rb")


def _read_soundfile(file, name: str, max_seconds: float) -> np.ndarray:
    limit = math.ceil(max_seconds * file.samplerate)
    samples = file.read(limit + 1, dtype="float32", always_2d=True)[:, 0]
    if len(samples) > limit:
        _require_length(len(samples) / file.samplerate, max_seconds, name)
    # MP3 headers only estimate the length; every other format states it.
    if len(samples) < file.frames and file.format != "MP3":
        raise AudioError("corrupt", name, f"{len(samples)} of {file.frames} samples could be decoded")
    return np.ascontiguousarray(samples)


def _require_length(seconds: float, max_seconds: float, name: str) -> None:
    if seconds > max_seconds:
        raise AudioError("too_long", name, f"{seconds:.2f} s exceeds {max_seconds:g} s")


def _decode_with_av(source, name: str, max_seconds: float, first_error: str) -> tuple[np.ndarray, int]:
    try:
        import av
    except ImportError:
        raise AudioError("corrupt", name, first_error) from None
    try:
        options = {"format_whitelist": _CONTAINERS}
        with _opened(source) as stream, av.open(stream, options=options) as container:
            if not container.streams.audio:
                raise AudioError("corrupt", name, "the container has no audio stream")
            if container.duration:
                _require_length(container.duration / av.time_base, max_seconds, name)
            return _read_av(container, name, max_seconds)
    except (av.FFmpegError, EOFError) as error:
        raise AudioError("corrupt", name, f"libsndfile: {first_error}; ffmpeg: {error}") from error


def _read_av(container, name: str, max_seconds: float) -> tuple[np.ndarray, int]:
    import av

    stream = container.streams.audio[0]
    planar = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
    pieces, count = [], 0
    for frame in container.decode(stream):
        for converted in planar.resample(frame):
            pieces.append(converted.to_ndarray()[0])
            count += len(pieces[-1])
        _require_length(count / stream.rate, max_seconds, name)
    return (np.concatenate(pieces) if pieces else np.zeros(0, np.float32)), stream.rate


def write(
    path: str | os.PathLike, samples: Float32[np.ndarray, "samples"], sample_rate: int = SAMPLE_RATE
) -> int:
    """Writes 16-bit mono FLAC or WAV, by suffix, and returns how many samples were clipped to [-1, 1].

    Raises:
        AudioError: a sample is NaN or infinite.
        ValueError: the suffix is neither `.flac` nor `.wav`.
    """
    import soundfile

    suffix = Path(path).suffix.lower()
    if suffix not in (".flac", ".wav"):
        raise ValueError(f"{path}: audio is written as .flac or .wav, not {suffix or 'without a suffix'}")
    pcm, clipped = _to_pcm(samples, path)
    soundfile.write(path, pcm, sample_rate, format=suffix[1:].upper(), subtype="PCM_16")
    return clipped


def encode_flac(samples: Float32[np.ndarray, "samples"], sample_rate: int = SAMPLE_RATE) -> bytes:
    """16-bit mono FLAC of a waveform; clipped samples are counted in the log."""
    import soundfile

    pcm, clipped = _to_pcm(samples, "<samples>")
    if clipped:
        logger.warning("%d of %d samples clipped to [-1, 1] in encoding FLAC", clipped, len(pcm))
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, sample_rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def decode_flac(data: bytes) -> Float32[np.ndarray, "samples"]:
    """Inverts `encode_flac` exactly for samples that were 16-bit. Raises AudioError on damaged bytes."""
    samples = flac_samples(data)
    if samples is not None and (read := _drflac()):
        return read(data, samples)
    import soundfile

    try:
        return soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0][:, 0].copy()
    except soundfile.LibsndfileError as error:
        raise AudioError("corrupt", "<bytes>", str(error)) from error


def flac_samples(data: bytes) -> int | None:
    """Samples of a FLAC stream at 16 kHz, mono, 16 bits, as its STREAMINFO says; None if it is no such stream."""
    packed = int.from_bytes(data[18:26], "big")
    rate, channels, bits = packed >> 44, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1
    if (data[:4], rate, channels, bits) != (b"fLaC", SAMPLE_RATE, 1, 16):
        return None
    return packed & (1 << 36) - 1 or None


@functools.cache
def _drflac():
    """A decoder of our FLAC streams that is twice as fast as libsndfile, where `miniaudio` is installed."""
    try:
        import miniaudio
    except ImportError:
        return None

    def read(data: bytes, samples: int) -> np.ndarray:
        try:
            pcm = np.frombuffer(miniaudio.flac_read_s16(data).samples, np.int16)
        except miniaudio.MiniaudioError as error:
            raise AudioError("corrupt", "<bytes>", str(error)) from error
        if len(pcm) != samples:  # it skips frames whose checksum is wrong
            raise AudioError("corrupt", "<bytes>", f"{len(pcm)} of {samples} samples could be decoded")
        return np.multiply(pcm, np.float32(1 / 32768), dtype=np.float32)

    return read


def _to_pcm(samples, path) -> tuple[Int16[np.ndarray, "samples"], int]:
    samples = np.asarray(samples, np.float32)
    if not np.isfinite(samples).all():
        raise AudioError("not_finite", path, "samples to be written are NaN or infinite")
    # libsndfile reads code / 32768, so this rounding makes decode(encode(x)) exact for 16-bit x.
    pcm = np.clip(np.round(samples * 32768.0), -32768, 32767).astype(np.int16)
    return pcm, int(np.count_nonzero(np.abs(samples) > 1.0))


def log_mel(samples: Float32[np.ndarray, "samples"], normalize: bool = True) -> Float32[np.ndarray, "F 128"]:
    """Whisper's log-mel features of a 16 kHz waveform, without padding to 30 s (docs/reference.md, Log-mel features).

    Args:
        samples: at least 201, so that the reflection at the edges exists.
        normalize: zero mean and unit variance first, as in training; False is what the vLLM port serves with.
    """
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 1 or len(samples) <= FFT_SIZE // 2:
        raise ValueError(
            f"log_mel needs a mono waveform longer than {FFT_SIZE // 2} samples, got {samples.shape}"
        )
    if normalize:
        samples = samples - samples.mean()
        samples *= 1 / np.sqrt(np.dot(samples, samples) / len(samples) + 1e-7)
    padded = np.pad(samples, FFT_SIZE // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT_SIZE)[::HOP][: mel_frames(len(samples))]
    mel = np.empty((len(frames), MEL_BINS), np.float32)
    for begin in range(0, len(frames), _FFT_BLOCK):
        block = slice(begin, begin + _FFT_BLOCK)
        squares = _spectra_squared(frames[block] * _hann())
        for bins, band, filters in _mel_bands():
            np.matmul(squares[:, bins], filters, out=mel[block, band])
    mel = np.log10(np.maximum(mel, 1e-10, out=mel), out=mel)
    np.maximum(mel, mel.max() - 8.0, out=mel)
    mel += 4.0
    mel *= 0.25
    return mel


def _spectra_squared(frames: Float32[np.ndarray, "F 400"]) -> Float32[np.ndarray, "F 402"]:
    """Squares of the real and the imaginary part of each bin, in turns; `frames` is used up.

    scipy's transform is twice as fast as numpy's.
    """
    import scipy.fft

    spectra = scipy.fft.rfft(frames, axis=1, overwrite_x=True).view(np.float32)
    return np.square(spectra, out=spectra)


@functools.cache
def _hann() -> Float32[np.ndarray, "400"]:
    """The periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT_SIZE) / FFT_SIZE)).astype(np.float32)


@functools.cache
def _mel_bands() -> list[tuple[slice, slice, Float32[np.ndarray, "n 16"]]]:
    """(columns of `_spectra_squared`, mel bins, filters from one to the other) of each eighth of the mel bins.

    Together they are a quarter of the whole matrix, of which all else is zero.
    """
    filters, bands = np.repeat(_mel_filters(), 2, axis=0), []
    for begin in range(0, MEL_BINS, MEL_BINS // 8):
        band = slice(begin, begin + MEL_BINS // 8)
        heard = np.flatnonzero(filters[:, band].any(axis=1))
        bins = slice(heard[0], heard[-1] + 1)
        bands.append((bins, band, np.ascontiguousarray(filters[bins, band])))
    return bands


@functools.cache
def _mel_filters() -> Float32[np.ndarray, "201 128"]:
    """Triangles on Slaney's mel scale from 0 to 8000 Hz, each of unit area."""
    edges = _mel_to_hertz(np.linspace(0.0, _hertz_to_mel(SAMPLE_RATE / 2), MEL_BINS + 2))
    bins = np.linspace(0.0, SAMPLE_RATE / 2, FFT_SIZE // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins) / np.diff(edges)[1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * 2.0 / (edges[2:] - edges[:-2])).astype(np.float32)


_LINEAR_HERTZ, _LINEAR_MELS, _LOG_STEP = 1000.0, 15.0, np.log(6.4) / 27.0
# Slaney's scale is linear (3 mels per 200 Hz) up to 1 kHz and logarithmic above.


def _hertz_to_mel(hertz: float) -> float:
    return _LINEAR_MELS + np.log(hertz / _LINEAR_HERTZ) / _LOG_STEP


def _mel_to_hertz(mels: np.ndarray) -> np.ndarray:
    log_part = _LINEAR_HERTZ * np.exp(_LOG_STEP * (mels - _LINEAR_MELS))
    return np.where(mels < _LINEAR_MELS, mels * _LINEAR_HERTZ / _LINEAR_MELS, log_part)
