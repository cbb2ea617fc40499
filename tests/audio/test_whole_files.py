"""A file is read whole or refused: of every container, cut at any byte, joined, changing midway, written to a pipe."""

import functools
import io
import struct

import numpy as np
import pytest
import soundfile
from sound_files import RATE, Pipe, amr, by_ffmpeg, by_libsndfile, mp3, noise_and_tone

from bagpiper_jax import audio
from bagpiper_jax.audio import decoding

pytest.importorskip("av", reason="PyAV is not installed: it writes the files of this test")
SOUND = noise_and_tone()

# Name → how it is written, and samples beyond the sound's own: 0 where the format tells an encoder's delay and padding.
FORMATS = {
    **{
        f"{format}.{subtype}": (functools.partial(by_libsndfile, SOUND, format, subtype), 0)
        for format, subtype in (
            ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16"),
            ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AIFF", "FLOAT"), ("CAF", "PCM_24"), ("CAF", "ALAC_16"),
            ("AU", "PCM_16"), ("NIST", "PCM_16"), ("VOC", "PCM_16"), ("SVX", "PCM_16"), ("HTK", "PCM_16"),
            ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("FLAC", "PCM_S8"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
        )
    },
    "WAV.GSM": (functools.partial(by_libsndfile, SOUND, "WAV", "GSM610"), 640),
    "WAV.ADPCM": (functools.partial(by_libsndfile, SOUND, "WAV", "IMA_ADPCM"), 1024),
    "WAV.G722": (functools.partial(by_ffmpeg, SOUND, "wav", "g722"), 0),
    "WAV.MP3": (functools.partial(by_ffmpeg, SOUND, "wav", "libmp3lame"), 2304),
    "MP3": (functools.partial(mp3, SOUND), 0),
    "MP3 without Xing": (functools.partial(mp3, SOUND, xing=False), 2304),
    "MP2": (functools.partial(by_ffmpeg, SOUND, "mp2", "mp2"), 2304),
    "M4A": (functools.partial(by_ffmpeg, SOUND, "ipod", "aac"), 0),
    "M4A.ALAC": (functools.partial(by_ffmpeg, SOUND, "ipod", "alac"), 0),
    "MP4 fragments": (functools.partial(by_ffmpeg, SOUND, "mp4", "aac", movflags="frag_keyframe+empty_moov"), 2048),
    "MKA": (functools.partial(by_ffmpeg, SOUND, "matroska", "aac"), 2048),
    "MKA.PCM": (functools.partial(by_ffmpeg, SOUND, "matroska", "pcm_s16le"), 0),
    "WebM": (functools.partial(by_ffmpeg, SOUND, "webm", "libopus"), 0),
    "ADTS": (functools.partial(by_ffmpeg, SOUND, "adts", "aac"), 2048),
    "AMR": (functools.partial(amr, 63), 160),
    "WMA": (functools.partial(by_ffmpeg, SOUND, "asf", "wmav2"), 2048),
    "WavPack": (functools.partial(by_ffmpeg, SOUND, "wv", "wavpack"), 0),
    "TTA": (functools.partial(by_ffmpeg, SOUND, "tta", "tta"), 0),
    "AVI": (functools.partial(by_ffmpeg, SOUND, "avi", "pcm_s16le"), 0),
    "MPEG-TS": (functools.partial(by_ffmpeg, SOUND, "mpegts", "aac"), 2048),
    "Ogg FLAC": (functools.partial(by_ffmpeg, SOUND, "ogg", "flac"), 0),
}  # fmt: skip
written = functools.cache(lambda name: FORMATS[name][0]())


def reason_of(data, **limits) -> str:
    with pytest.raises(audio.AudioError) as caught:
        audio.read(data, **limits)
    return caught.value.reason


@pytest.mark.parametrize("name", FORMATS)
def test_every_sample_of_a_whole_file_is_read(name):
    samples, more = audio.read(written(name)), FORMATS[name][1]
    assert -32 <= len(samples) - len(SOUND) <= more
    if name != "AMR":  # whose content is noise
        # Encoders' delays aside, the sound stands where it stood: the rising tone tells.
        place = np.correlate(samples[:16_000], SOUND[4000:12_000], "valid").argmax()
        assert abs(place - 4000) <= (1200 if more else 22)


@pytest.mark.parametrize("name", ["WAV.PCM_16", "FLAC.PCM_16", "OGG.OPUS", "MP3", "M4A", "ADTS", "AVI"])
def test_a_file_that_is_not_held_in_memory_gives_the_same_samples(name, monkeypatch):
    samples = audio.read(written(name))
    monkeypatch.setattr(decoding, "_WHOLE", 1000)
    np.testing.assert_array_equal(audio.read(written(name)), samples)


@pytest.mark.parametrize("format, codec, options", [
    ("mov", "pcm_s16le", {}), ("mov", "pcm_mulaw", {}), ("mp4", "libmp3lame", {}),
    ("matroska", "flac", {}), ("matroska", "libmp3lame", {}), ("mpegts", "mp2", {}), ("avi", "libmp3lame", {}),
    ("asf", "wmav2", {"into": Pipe}), ("avi", "mp2", {"into": Pipe}),
    ("matroska", "aac", {"into": Pipe}), ("webm", "libopus", {"into": Pipe}), ("ogg", "libopus", {"into": Pipe}),
    ("adts", "aac", {"into": Pipe}), ("mp3", "libmp3lame", {"into": Pipe}), ("mpegts", "aac", {"into": Pipe}),
    ("mp4", "aac", {"into": Pipe, "movflags": "frag_keyframe+empty_moov"}), ("webm", "libopus", {"start": 8000}),
    ("matroska", "pcm_s16le", {"start": 8000}), ("ipod", "aac", {"start": 8000}), ("tta", "tta", {"into": Pipe}),
])  # fmt: skip
def test_rarer_ways_to_write_a_sound_are_no_damage(format, codec, options):
    into = options.get("into")
    data = by_ffmpeg(SOUND, format, codec, **{**options, **({"into": into()} if into else {})})
    assert -40 <= len(audio.read(data)) - len(SOUND) <= 2400


# What is cut off first is an index, a pad byte, or what no sample needs.
ENDED_BEFORE = (
    "WMA", "AVI", "TTA", "M4A", "M4A.ALAC", "MKA", "MKA.PCM", "WebM", "HTK.PCM_16", "VOC.PCM_16",
    "CAF.ALAC_16", "WAV.GSM",
)  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_at_any_byte_is_refused(name):
    """Where frames alone make a file, what is cut between two of them is another whole file."""
    data, intact = written(name), audio.read(written(name))
    rng = np.random.default_rng(len(name))
    for place in {1, 11, 40, 60, *rng.integers(1, len(data), 20).tolist(), len(data) - 200, len(data) - 1}:
        try:
            samples = audio.read(data[:place])
        except audio.AudioError as error:
            assert error.reason in ("corrupt", "empty"), (place, error)
            continue
        missing = len(intact) - len(samples)
        between = {"MP3 without Xing": 576, "MP2": 1152, "ADTS": 1024, "AMR": 320, "MPEG-TS": 1024}
        assert missing == 0 or (name in between and missing % between[name] == 0), (place, missing)
        assert missing or name in ENDED_BEFORE, place


JOINED = ("MP3", "MP3 without Xing", "MP2", "ADTS", "OGG.VORBIS", "OGG.OPUS", "Ogg FLAC")


@pytest.mark.parametrize("name", JOINED)
def test_files_that_may_follow_each_other_are_read_one_after_the_other(name):
    one = audio.read(written(name))
    twice = audio.read(written(name) * 2)
    assert len(twice) == 2 * len(one)
    if name != "ADTS":  # a decoder of AAC overlaps its frames
        np.testing.assert_allclose(twice, np.concatenate([one, one]), atol=1e-2)
    with_tag = written(name)[:0] + b"ID3\x04\0\0\0\0\0\x05title"
    if not name.lower().startswith("og"):
        assert len(audio.read(with_tag + written(name) + with_tag + written(name))) == 2 * len(one)
    assert reason_of(written(name) * 2, max_seconds=2.0) == "too_long"


@pytest.mark.parametrize("name", [
    "WAV.PCM_16", "WAV.FLOAT", "RF64.PCM_16", "W64.PCM_16", "AIFF.PCM_16", "CAF.PCM_24", "AU.PCM_16", "NIST.PCM_16",
    "FLAC.PCM_16", "FLAC.PCM_24", "M4A", "MKA.PCM", "WMA",
])  # fmt: skip
def test_files_that_end_where_they_say_are_not_joined(name):
    """Every player stops behind the first; the second would be lost without a word."""
    assert reason_of(written(name) * 2) == "corrupt"


@pytest.mark.parametrize("write", [
    lambda samples, rate: mp3(samples, rate, xing=False),
    lambda samples, rate: mp3(samples, rate),
    lambda samples, rate: by_ffmpeg(samples, "adts", "aac", rate),
    lambda samples, rate: by_libsndfile(samples, "OGG", "VORBIS", rate),
])  # fmt: skip
def test_a_file_whose_rate_or_channels_change_midway_is_refused(write):
    mono, stereo = write(SOUND, RATE), write(np.stack([SOUND, SOUND], axis=1), RATE)
    for other in (write(SOUND, 32_000), stereo):
        with pytest.raises(
            audio.AudioError, match=r"it changes from 16000 Hz in 1 channel\(s\) to .* after 1\.\d+ s"
        ):
            audio.read(mono + other)


PIPED = {
    "wav": "pcm_s16le", "w64": "pcm_s16le", "caf": "pcm_s16be", "au": "pcm_s16be", "aiff": "pcm_s16be",
    "flac": "flac",
}  # fmt: skip


@pytest.mark.parametrize("format", PIPED)
def test_what_a_pipe_wrote_is_read_to_its_end(format):
    data = by_ffmpeg(SOUND, format, PIPED[format], into=Pipe())
    np.testing.assert_allclose(audio.read(data), SOUND, atol=1e-4)
    assert reason_of(data, max_seconds=1.0) == "too_long"


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x7FFFF000, 0x7FFFFFFF - 36])
@pytest.mark.parametrize("whole", [0, 36, 0xFFFFFFFF, 0x7FFFFFFF])
def test_sizes_that_programs_leave_open_in_a_wav(size, whole):
    data = by_libsndfile(SOUND, "WAV", "PCM_16")
    place = data.index(b"data") + 4
    opened = data[:4] + struct.pack("<I", whole) + data[8:place] + struct.pack("<I", size) + data[place + 4 :]
    np.testing.assert_array_equal(audio.read(opened), audio.read(data))
    assert reason_of(opened * 2) == "corrupt"


SIZE_PLACES = {
    "WAV.PCM_16": (b"data", 4, "<I"), "AIFF.PCM_16": (b"SSND", 4, ">I"), "CAF.PCM_24": (b"data", 4, ">q"),
    "AU.PCM_16": (b".snd", 8, ">I"), "RF64.PCM_16": (b"ds64", 16, "<Q"),
    "W64.PCM_16": (b"data\xf3\xac\xd3\x11", 16, "<q"),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZE_PLACES)
@pytest.mark.parametrize("more", [2, 1000, 100_000_000])
def test_a_header_that_tells_of_more_than_there_is_is_refused(name, more):
    name_of_chunk, shift, form = SIZE_PLACES[name]
    data = bytearray(written(name))
    place = data.index(name_of_chunk) + shift
    (size,) = struct.unpack_from(form, data, place)
    struct.pack_into(form, data, place, size + more)
    with pytest.raises(audio.AudioError, match="tells of .* bytes of sound"):
        audio.read(bytes(data))


def chunk(name: bytes, content: bytes, order: str = "<") -> bytes:
    return name + struct.pack(f"{order}I", len(content)) + content + b"\0" * (len(content) % 2)


@pytest.mark.parametrize("behind", [
    b"\0", b"x", b"\n", b"odd bytes behind", chunk(b"LIST", b"INFOISFT\x05\0\0\0Lavf\0"), chunk(b"id3 ", b"title"),
    b"\0" * 5000, chunk(b"junk", b"\xff" * 99) + b"TAG" + b" " * 125,
])  # fmt: skip
@pytest.mark.parametrize(
    "name", ["WAV.PCM_16", "WAV.FLOAT", "AIFF.PCM_16", "W64.PCM_16", "CAF.PCM_24", "AU.PCM_16"]
)
def test_odd_bytes_and_chunks_behind_the_sound_are_no_part_of_it(name, behind):
    np.testing.assert_array_equal(audio.read(written(name) + behind), audio.read(written(name)))


def test_odd_bytes_of_eight_bit_sound_without_their_pad():
    data = by_libsndfile(SOUND[:19_999], "WAV", "PCM_U8")
    sizes = [
        len(audio.read(data[:44] + data[44 : 44 + 19_999] + behind)) for behind in (b"", b"\0", b"\0LIST")
    ]
    assert sizes == [19_999] * 3


def test_a_wav_without_sound_is_empty_whatever_stands_behind():
    data = bytearray(by_libsndfile(SOUND[:0], "WAV", "PCM_16") + chunk(b"LIST", b"INFO" + b"x" * 400))
    struct.pack_into("<I", data, 4, len(data) - 8)
    assert reason_of(bytes(data)) == "empty"


def test_more_sound_behind_the_sound_is_not_lost_without_a_word():
    data = by_libsndfile(SOUND, "WAV", "PCM_16")
    assert reason_of(data + chunk(b"LIST", b"INFO") + data) == "corrupt"
    assert reason_of(data + chunk(b"data", b"\1\2" * 9000)) == "corrupt"


def test_a_length_that_a_header_alone_tells_is_not_believed():
    """`too_long` is said of what was decoded, or of a header that agrees with the file's size."""
    assert reason_of(by_libsndfile(np.zeros(40 * RATE, np.float32), "WAV", "PCM_16")) == "too_long"
    assert reason_of(by_ffmpeg(np.zeros(40 * RATE, np.float32), "adts", "aac")) == "too_long"
    assert reason_of(by_ffmpeg(np.zeros(40 * RATE, np.float32), "ipod", "aac")) == "too_long"
    data = bytearray(written("M4A"))
    for name, place in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):
        struct.pack_into(">I", data, data.index(name) + place, 1_000_000_000)
    assert len(SOUND) <= len(audio.read(bytes(data))) <= len(SOUND) + 1024


def test_no_more_is_decoded_than_it_takes_to_call_a_file_too_long(monkeypatch):
    from bagpiper_jax.audio import libsndfile

    decoded, decode = [], libsndfile.decode
    monkeypatch.setattr(libsndfile, "decode", lambda *a, **k: decoded.append(1) or decode(*a, **k))
    assert reason_of(written("OGG.VORBIS") * 50, max_seconds=3.0) == "too_long"
    assert len(decoded) == 3


def test_an_mp4_without_packets_that_its_index_lists_is_refused():
    data = bytearray(written("M4A"))
    place = data.index(b"stts") + 12
    count, step = struct.unpack_from(">II", data, place)
    struct.pack_into(">II", data, place, count, step // 2)  # half as fast
    assert reason_of(bytes(data)) == "corrupt"


@pytest.mark.parametrize("tag", [0x1234, 0x0130, 0x7777])
def test_a_codec_that_nobody_decodes_is_a_fault_of_its_file(tmp_path, tag):
    data = bytearray(by_libsndfile(SOUND, "WAV", "PCM_16"))
    struct.pack_into("<H", data, 20, tag)
    (tmp_path / "proprietary.wav").write_bytes(data)
    with pytest.raises(audio.AudioError, match=r"proprietary\.wav: corrupt"):
        audio.read(tmp_path / "proprietary.wav")


def test_g722_has_no_header_so_its_suffix_tells(tmp_path):
    data = by_ffmpeg(SOUND, "g722", "g722")
    (tmp_path / "speech.G722").write_bytes(data)
    assert np.corrcoef(audio.read(tmp_path / "speech.G722")[22:], SOUND[:-22])[0, 1] > 0.99
    with pytest.raises(audio.AudioError, match="corrupt") as caught:
        audio.read(data)
    assert "install" not in str(caught.value), "av is installed"
    (tmp_path / "really.g722").write_bytes(written("M4A"))
    np.testing.assert_array_equal(audio.read(tmp_path / "really.g722"), audio.read(written("M4A")))


def test_what_av_would_read_asks_for_it_where_it_is_missing(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(audio.AudioError, match="`av` is not installed"):
        audio.read(written("M4A"))
    assert len(audio.read(written("MP3"))) == len(audio.read(written("FLAC.PCM_16"))) == len(SOUND)


def test_a_folder_and_a_file_that_cannot_be_opened_are_named(tmp_path, monkeypatch):
    with pytest.raises(audio.AudioError, match="missing: this is a folder, not a file"):
        audio.read(tmp_path)
    with pytest.raises(audio.AudioError, match="missing: no such file"):
        audio.read(tmp_path / "none.wav")
    (tmp_path / "a.wav").write_bytes(written("WAV.PCM_16"))

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(audio.AudioError, match=r"a\.wav: unreadable: Permission denied"):
        audio.read(tmp_path / "a.wav")


@pytest.mark.parametrize(
    "error", [AttributeError("layout"), ValueError("x"), RuntimeError, MemoryError, AssertionError]
)
def test_whatever_a_decoder_raises_is_a_fault_of_its_file(monkeypatch, error):
    def fail(*args, **more):
        raise error

    monkeypatch.setattr("av.open", fail)
    monkeypatch.setattr("miniaudio.mp3_read_f32", fail)
    monkeypatch.setattr(soundfile, "SoundFile", fail)
    for name in ("M4A", "MP3", "WAV.PCM_16", "OGG.OPUS"):
        assert reason_of(written(name)) == "corrupt"


def test_an_interrupt_passes(monkeypatch):
    def stop(*args, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(soundfile, "SoundFile", stop)
    with pytest.raises(KeyboardInterrupt):
        audio.read(written("WAV.PCM_16"))


def test_formats_of_which_nobody_can_tell_whether_they_are_whole():
    with pytest.raises(audio.AudioError, match="AVR"):
        audio.read(by_libsndfile(SOUND, "AVR", "PCM_16"))


def test_a_stereo_file_of_either_decoder_gives_its_first_channel():
    stereo = np.stack([SOUND, -SOUND], axis=1)
    for data in (
        by_ffmpeg(stereo, "matroska", "pcm_f32le"),
        by_ffmpeg(stereo, "ipod", "alac"),
    ):
        np.testing.assert_allclose(audio.read(data), SOUND, atol=1e-4)
    assert (
        np.corrcoef(audio.read(mp3(np.stack([SOUND, 0 * SOUND], axis=1), kilobits=128)), SOUND)[0, 1] > 0.99
    )
    assert soundfile.info(io.BytesIO(by_libsndfile(stereo, "FLAC"))).channels == 2
    np.testing.assert_allclose(audio.read(by_libsndfile(stereo, "FLAC")), SOUND, atol=1e-4)
