"""Damaged sound files of every format: read as they were, or refused under a reason, and nothing else is ever raised.

Formats without checksums may sound otherwise after damage, but never be shorter or longer without a word.
"""

import functools

import numpy as np
import pytest
from fuzzing import Tally, damage, generator
from sound_files import amr, by_ffmpeg, by_libsndfile, mp3, noise_and_tone

from bagpiper_jax import audio

pytest.importorskip("av", reason="PyAV is not installed: it writes the files of this test")
SOUND = noise_and_tone(0.6)
CASES = 48

CHECKED = {
    "FLAC": functools.partial(by_libsndfile, SOUND, "FLAC"),
    "FLAC.PCM_24": functools.partial(by_libsndfile, SOUND, "FLAC", "PCM_24"),
    "OGG.VORBIS": functools.partial(by_libsndfile, SOUND, "OGG", "VORBIS"),
    "OGG.OPUS": functools.partial(by_libsndfile, SOUND, "OGG", "OPUS"),
    "Ogg FLAC": functools.partial(by_ffmpeg, SOUND, "ogg", "flac"),
    "AC3": functools.partial(by_ffmpeg, noise_and_tone(0.6, 48_000), "ac3", "ac3", 48_000),
    "TTA": functools.partial(by_ffmpeg, SOUND, "tta", "tta"),
}
UNCHECKED = {
    "WAV": functools.partial(by_libsndfile, SOUND, "WAV"),
    "WAV.ADPCM": functools.partial(by_libsndfile, SOUND, "WAV", "MS_ADPCM"),
    "RF64": functools.partial(by_libsndfile, SOUND, "RF64"),
    "W64": functools.partial(by_libsndfile, SOUND, "W64"),
    "AIFF": functools.partial(by_libsndfile, SOUND, "AIFF"),
    "CAF": functools.partial(by_libsndfile, SOUND, "CAF"),
    "AU": functools.partial(by_libsndfile, SOUND, "AU"),
    "NIST": functools.partial(by_libsndfile, SOUND, "NIST"),
    "VOC": functools.partial(by_libsndfile, SOUND, "VOC", "PCM_16"),
    "MP3": functools.partial(mp3, SOUND),
    "MP3 without Xing": functools.partial(mp3, SOUND, xing=False),
    "M4A": functools.partial(by_ffmpeg, SOUND, "ipod", "aac"),
    "M4A.ALAC": functools.partial(by_ffmpeg, SOUND, "ipod", "alac"),
    "MKA": functools.partial(by_ffmpeg, SOUND, "matroska", "pcm_s16le"),
    "WebM": functools.partial(by_ffmpeg, SOUND, "webm", "libopus"),
    "ADTS": functools.partial(by_ffmpeg, SOUND, "adts", "aac"),
    "AMR": functools.partial(amr, 30),
    "WMA": functools.partial(by_ffmpeg, SOUND, "asf", "wmav2"),
    "MPEG-TS": functools.partial(by_ffmpeg, SOUND, "mpegts", "aac"),
    "AVI": functools.partial(by_ffmpeg, SOUND, "avi", "pcm_s16le"),
}

RATE_IN_HEADER = (
    "WAV", "WAV.ADPCM", "RF64", "W64", "AIFF", "CAF", "AU", "NIST", "VOC", "MKA", "AVI", "M4A.ALAC",
)  # fmt: skip


def damaged(data: bytes, target: str):
    """Each third a flipped bit anywhere, a flipped bit in the header, and one to four faults of any kind."""
    for number in range(CASES):
        rng = generator(target, number)
        if number % 3 == 2:
            yield number, damage(data, rng)
            continue
        changed = bytearray(data)
        changed[int(rng.integers(min(len(data), 250) if number % 3 else len(data)))] ^= 1 << int(
            rng.integers(8)
        )
        yield number, bytes(changed)


def outcomes(target: str, data: bytes):
    """(number, samples) of the cases that are read; the others must be refused under a reason, with the path."""
    for number, case in damaged(data, target):
        try:
            yield number, audio.read(case, min_seconds=0.0)
        except audio.AudioError as error:
            assert error.reason in audio.REMEDIES and error.path == "<bytes>" and error.detail, number


@pytest.mark.parametrize("name", CHECKED)
def test_what_has_checksums_is_the_same_or_refused(name):
    data, tally = CHECKED[name](), Tally()
    intact = audio.read(data)
    for number, samples in outcomes(name, data):
        np.testing.assert_array_equal(samples, intact, err_msg=str(number))
        tally.counts["kept"] += 1
    tally.counts["refused"] = CASES - tally.counts["kept"]
    assert tally.counts["refused"] > CASES // 2, tally.counts


@pytest.mark.parametrize("name", UNCHECKED)
def test_what_has_no_checksums_keeps_its_length_or_is_refused(name):
    data, tally = UNCHECKED[name](), Tally()
    intact = audio.read(data)
    # The header of a file of samples alone tells the rate; nothing contradicts it. Otherwise codecs may lose a frame
    # whose damage looks like the delay or padding of an encoder.
    tells_rate = name in RATE_IN_HEADER
    for number, samples in outcomes(name, data):
        assert abs(len(samples) - len(intact)) <= 2400 or (tells_rate and number % 3), number
        assert np.isfinite(samples).all(), number
        tally.counts["kept"] += 1
    tally.counts["refused"] = CASES - tally.counts["kept"]
    tally.check(CASES)


BEGINNINGS = (
    b"RIFF\xff\xff\xff\xffWAVE", b"RIFF\x24\0\0\0WAVEdata", b"RF64\xff\xff\xff\xffWAVEds64", b"fLaC", 
    b"fLaC\x80\0\0\x22", b"OggS\0\x02", b"ID3\x04\0\0\0\0\0\0" * 3000, b"FORM\0\0\0\x40AIFF", b"FORM\0\0\0\x408SVX",
    b"caff\0\x01\0\0", b".snd\0\0\0\x18", b"riff\x2e\x91\xcf\x11", b"NIST_1A\n   1024\n", b"NIST_1A\n   -999\n",
    b"NIST_1A\nxxxx", b"\xff\xfb\x90\xc4", b"Creative Voice File\x1a\x1a\0", b"\0\0\0\x18ftypM4A ", b"\0\0\0\0ftyp",
    b"\0\0\0\x01ftyp\0\0\0\0\0\0\0\x08" * 50, b"\x1a\x45\xdf\xa3", b"\x1a\x45\xdf\xa3\x80" * 2000, b"\xff\xf1\x50\x80",
    b"#!AMR\n", b"#!AMR-WB\n\xff", b"TAG", bytes.fromhex("3026b2758e66cf11"), b"G" * 600, b"TTA1\1\0", b"wvpk",
    b"APETAGEX", b"AAAA\0\0\0\0" * 20_000, b"\xff" * 9999,
)  # fmt: skip


@pytest.mark.parametrize("beginning", BEGINNINGS, ids=range(len(BEGINNINGS)))
def test_a_beginning_that_leads_nowhere_is_refused(beginning):
    for number in range(4):
        rng = generator("beginning", number)
        with pytest.raises(audio.AudioError) as caught:
            audio.read(beginning + (b"" if number == 0 else rng.bytes(10**number)), min_seconds=0.001)
        assert caught.value.reason in ("corrupt", "empty", "too_short", "too_long"), caught.value
