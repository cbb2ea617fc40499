"""MP3: nothing tells its length but its frames, which may be cut, joined, tagged, and of any bit rate."""

import io
import struct

import numpy as np
import pytest
import soundfile
from sound_files import mp3, noise_and_tone

from bagpiper_jax import audio
from bagpiper_jax.audio.formats.mpeg_headers import frame_of

av = pytest.importorskip("av", reason="PyAV is not installed: it writes the files of this test")
SOUND = noise_and_tone(1.25, 44_100)
ID3V2 = b"ID3\x04\0\0\0\0\x02\x00" + b"\0" * 256
ID3V1 = b"TAG" + b"title".ljust(125)
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0x8000_0000 >> 1) + bytes(8)


def samples_of(data: bytes) -> np.ndarray:
    return audio.read(data, 44_100)


def detail_of(data: bytes) -> str:
    with pytest.raises(audio.AudioError, match="corrupt") as caught:
        samples_of(data)
    return caught.value.detail


def by_av(data: bytes) -> np.ndarray:
    """The oracle: how ffmpeg decodes the first channel."""
    with av.open(io.BytesIO(data)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def variable(*kilobits: int) -> bytes:
    """MP3 of variable bit rate, without a word of it in front: pieces of other rates, of whole frames."""
    return b"".join(mp3(SOUND, 44_100, rate, xing=False) for rate in kilobits)


@pytest.mark.parametrize("kilobits", [(32, 320), (320, 32), (32, 320, 32, 128), (128,), (40, 320, 320, 320)])
def test_a_variable_bit_rate_shortens_and_lengthens_nothing(kilobits):
    data = variable(*kilobits)
    assert len(samples_of(data)) == len(by_av(data))
    with pytest.raises(audio.AudioError, match="too_long"):
        audio.read(data, max_seconds=1.2)


def test_variable_bit_rate_with_xing():
    from sound_files import by_ffmpeg

    data = by_ffmpeg(SOUND, "mp3", "libmp3lame", 44_100, codec_options={"abr": "1"})
    np.testing.assert_allclose(samples_of(data), by_av(data), atol=1e-3)


@pytest.mark.parametrize("rate", [8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
def test_the_encoders_delay_and_padding_go_off(rate):
    sound = noise_and_tone(1.0, rate)
    samples = audio.read(mp3(sound, rate, kilobits=64 if rate > 12_000 else 32), rate)
    assert len(samples) == len(sound)
    assert np.correlate(samples[: rate // 2], sound[rate // 8 : rate // 4], "valid").argmax() == rate // 8


def test_both_decoders_give_the_same_samples():
    data = mp3(SOUND, 44_100)
    np.testing.assert_allclose(
        samples_of(data), soundfile.read(io.BytesIO(data), dtype="float32")[0], atol=1e-3
    )
    np.testing.assert_allclose(samples_of(data), by_av(data), atol=1e-3)


@pytest.mark.parametrize("xing", [True, False])
@pytest.mark.parametrize(
    "before, behind",
    [
        (ID3V2, b""), (ID3V2 * 2, b""), (b"", ID3V1), (b"", APE), (ID3V2, APE + ID3V1), (bytes(700), b""),
        (b"", bytes(5000)), (b"", b"\r\n"), (b"", b"LYRICSBEGIN" + b"x" * 20 + b"000031LYRICS200" + ID3V1),
    ],
)  # fmt: skip
def test_tags_and_zeros_around_the_frames_are_no_part_of_it(xing, before, behind):
    data = mp3(SOUND, 44_100, xing=xing)
    np.testing.assert_array_equal(samples_of(before + data + behind), samples_of(data))


def frames_of(data: bytes) -> list[int]:
    """The places of the frames of an MP3 without tags."""
    place, found = 0, []
    while frame := frame_of(data[place : place + 4]):
        found.append(place)
        place += frame.length
    assert place == len(data)
    return found


@pytest.mark.parametrize(
    "garbage", [b"\0" * 400, b"garbage", b"\xff" * 1000, b"\xff\xfb\x90\xc4" * 3, bytes(range(256))]
)
def test_garbage_between_frames_is_no_part_of_a_sound(garbage):
    data = mp3(SOUND, 44_100, xing=False)
    middle = frames_of(data)[10]
    assert "between its frames" in detail_of(data[:middle] + garbage + data[middle:])


def test_a_hole_of_zeros_is_refused():
    data = mp3(SOUND, 44_100, xing=False)
    begin, end = frames_of(data)[10] + 50, frames_of(data)[20] + 7
    assert "between its frames" in detail_of(data[:begin] + bytes(end - begin) + data[end:])


def test_frames_that_are_missing_are_noticed_where_the_first_frame_counts_them():
    data = mp3(SOUND, 44_100)
    first = data.index(b"\xff\xfb")
    places = [first + place for place in frames_of(data[first:])]
    assert "tells of" in detail_of(data[: places[-1]])
    assert "tells of" in detail_of(data[: places[10]] + data[places[11] :])


def test_a_stream_that_begins_within_a_frame_keeps_all_whole_frames():
    data = mp3(SOUND, 44_100, xing=False)
    places = frames_of(data)
    later = data[places[5] :]
    np.testing.assert_array_equal(samples_of(data[places[5] - 90 :]), samples_of(later))
    assert len(samples_of(later)) == len(samples_of(data)) - 5 * 1152


def test_frames_that_need_what_was_cut_off_in_front_keep_their_time():
    data = mp3(SOUND, 44_100, kilobits=128)
    first = data.index(b"\xff\xfb")
    places = [first + place for place in frames_of(data[first:])]
    samples = samples_of(data[places[12] :])
    assert len(samples) == (len(places) - 12) * 1152
    np.testing.assert_allclose(samples[-1152 * 20 :], by_av(data[places[12] :])[-1152 * 20 :], atol=1e-3)


def test_an_mp3_that_is_not_one_does_not_become_one():
    rng = np.random.default_rng(0)
    for size in (3, 500, 20_000):
        assert detail_of(b"\xff\xfb" + rng.bytes(size))
        assert detail_of(ID3V2 + rng.bytes(size))
    assert detail_of(b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(300))
    assert "free format" in detail_of(b"".join(b"\xff\xfb\x00\xc4" + bytes(413) for _ in range(30)))
