"""FLAC of others: its checksums, its MD5 and its count of samples must agree with what is decoded."""

import io
import struct

import numpy as np
import pytest
import soundfile
from sound_files import by_libsndfile, noise_and_tone

from bagpiper_jax import audio
from bagpiper_jax.audio import decoding, flac

SOUND = noise_and_tone()
MD5 = slice(26, 42)


@pytest.fixture(params=["PCM_16", "PCM_24", "PCM_S8", "PCM_16 without miniaudio"])
def data(request, monkeypatch) -> bytes:
    subtype, *without = request.param.split(" ", 1)
    if without:
        monkeypatch.setattr(flac, "drflac", lambda: None)
    return by_libsndfile(SOUND, "FLAC", subtype)


def with_total(data: bytes, total: int) -> bytes:
    return (
        data[:21]
        + bytes([data[21] & 0xF0 | total >> 32])
        + struct.pack(">I", total & 0xFFFF_FFFF)
        + data[26:]
    )


def without_md5(data: bytes) -> bytes:
    return data[:26] + bytes(16) + data[42:]


def detail_of(data: bytes) -> str:
    with pytest.raises(audio.AudioError, match="corrupt") as caught:
        audio.read(data)
    return caught.value.detail


def test_a_flac_is_read_as_libsndfile_reads_it(data):
    np.testing.assert_array_equal(audio.read(data), soundfile.read(io.BytesIO(data), dtype="float32")[0])


def test_a_flac_that_is_not_held_in_memory_is_read_once(data, monkeypatch):
    class Counted(io.BytesIO):
        count = 0

        def read(self, size=-1):
            found = super().read(size)
            self.count += len(found)
            return found

    monkeypatch.setattr(decoding, "_WHOLE", 1000)
    stream = Counted(data)
    np.testing.assert_array_equal(decoding.decode(stream, len(data), 30.0).samples, audio.read(data))
    assert stream.count < 1.1 * len(data)


def test_a_flipped_bit_is_refused_or_changes_nothing(data):
    intact, rng = audio.read(data), np.random.default_rng(0)
    for place in [*range(4, 50), *rng.integers(42, len(data), 60)]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        try:
            np.testing.assert_array_equal(audio.read(bytes(damaged)), intact)
        except audio.AudioError as error:
            assert error.reason == "corrupt", place


def test_a_lost_frame_is_no_shorter_sound(data):
    """Every frame that is left has its checksum."""
    starts = [n for n in range(42, len(data) - 2) if data[n] == 0xFF and data[n + 1] in (0xF8, 0xF9)]
    begin, end = starts[len(starts) // 2], starts[len(starts) // 2 + 1]
    assert detail_of(data[:begin] + data[end:])


@pytest.mark.parametrize("total", [1, 4096, len(SOUND) - 1, len(SOUND) + 1, 400_000])
def test_a_total_that_is_not_so_is_refused(data, total):
    assert detail_of(with_total(data, total))
    pytest.importorskip("av")
    assert "its header tells of" in detail_of(with_total(without_md5(data), total))


@pytest.mark.parametrize("total", [31 * 16_000, 36_000 * 16_000, (1 << 36) - 1])
def test_a_total_beyond_the_accepted_length_must_be_there(data, total):
    assert "which are not there" in detail_of(with_total(data, total))


def test_what_an_encoder_could_not_know_is_no_fault(data):
    """Written to a pipe, a FLAC has neither its total nor its MD5."""
    pytest.importorskip("av")
    for piped in (with_total(data, 0), without_md5(data), with_total(without_md5(data), 0)):
        np.testing.assert_array_equal(audio.read(piped), audio.read(data))
        with pytest.raises(audio.AudioError, match="too_long"):
            audio.read(piped, max_seconds=1.0)
        damaged = bytearray(piped)
        damaged[len(data) // 2] ^= 16
        assert detail_of(bytes(damaged))
        assert detail_of(piped + data)


def test_another_md5_is_refused(data):
    assert "MD5" in detail_of(data[:26] + bytes(15) + b"\1" + data[42:])


def test_a_rate_in_the_header_that_is_not_the_frames_is_refused(data):
    doubled = struct.unpack(">I", data[18:22])[0] + (16_000 << 12)
    assert "32000 Hz, its first frame of 16000 Hz" in detail_of(
        data[:18] + struct.pack(">I", doubled) + data[22:]
    )


def test_tags_around_a_flac_are_no_part_of_it(data):
    tag = b"ID3\x04\0\0\0\0\0\x05title"
    np.testing.assert_array_equal(audio.read(tag + data), audio.read(data))
    np.testing.assert_array_equal(audio.read(data + b"TAG" + b" " * 125), audio.read(data))


def test_channels_are_in_the_md5():
    stereo = np.stack([SOUND, 0.5 * SOUND], axis=1)
    for subtype in ("PCM_16", "PCM_24"):
        np.testing.assert_allclose(audio.read(by_libsndfile(stereo, "FLAC", subtype)), SOUND, atol=1e-4)
