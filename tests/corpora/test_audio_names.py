"""What names audio is told from what does not; files that real encoders wrote are known by how they begin."""

import io

import numpy as np
import pytest
import soundfile
from sound_files import by_ffmpeg

from bagpiper_jax.corpora.audio_names import HEAD, fields_with_audio, looks_like_audio

NAMING = [
    {"audio_filepath": "a", "duration": 1.0},  # NeMo
    {"audioFilePath": "a"}, {"AUDIO": "a"}, {"audio_path": "clip one"}, {"audiopath": "x"}, {"audios": ["a"]},
    {"audio": {"path": "a", "bytes": None}}, {"audio": {"array": [0.0], "sampling_rate": 16000}},  # datasets
    {"wav": "x"}, {"wav_path": "x"}, {"wavs": ["x"]}, {"mp3_url": "https://a/b"}, {"speech_file": "x"},
    {"path": "common/clip.MP3"}, {"file_name": "x.oga"}, {"file": "a b.flac"}, {"location": "s3://b/k.wav?sig=1"},
    {"recording": {"id": "r", "sources": [{"type": "command", "source": "sox"}]}},  # Lhotse
    {"recording_id": "r1"}, {"features": {"storage_path": "x.ark:17"}},
    {"messages": [{"role": "user", "content": [{"type": "audio", "url": "x.m4a"}]}]},
    {"context": {"bytes": b"OggS....", "path": None}}, {"inline": "data:audio/wav;base64,UklGRg=="},
]  # fmt: skip
SILENT = [
    {"url": "https://www.abc.net.au"}, {"title": "An ode to .wav"}, {"recording": "We recorded it in May."},
    {"audio_duration": 3.5}, {"sound": "dog"}, {"speech": "Friends, Romans"}, {"duration": 3.0}, {"audio_path": None},
    {"wave": 2}, {"image": {"bytes": b"\x89PNG\r\n\x1a\n", "path": "a.png"}}, {"source_file": "notes.md"},
    {"note": "x" * 5000 + ".wav"}, {"code": "import x\nx.wav"}, {"audio_caption": "Rain."}, {"song": "La la."},
]  # fmt: skip


@pytest.mark.parametrize("record", NAMING, ids=str)
def test_fields_that_name_audio(record):
    assert fields_with_audio({"text": "Words.", **record}, ("text",)) == [next(iter(record))]


@pytest.mark.parametrize("record", SILENT, ids=lambda record: str(record)[:40])
def test_fields_that_do_not(record):
    assert fields_with_audio(record, ()) == []


def test_nothing_is_said_of_fields_that_are_read():
    assert fields_with_audio({"audio": "a.wav", "path": "a.wav"}, ("audio", "path")) == []


@pytest.mark.parametrize("kind", ["WAV", "RF64", "AIFF", "FLAC", "OGG", "CAF", "W64", "AU", "MP3", "NIST"])
def test_what_libsndfile_writes_looks_like_audio(kind):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(16000, np.float32), 16000, format=kind)
    assert looks_like_audio(buffer.getvalue()[:HEAD])


@pytest.mark.parametrize(
    ("container", "codec"),
    [("mp4", "aac"), ("mov", "aac"), ("webm", "libopus"), ("matroska", "aac"), ("adts", "aac"), ("mp3", "libmp3lame"),
     ("asf", "libmp3lame"), ("avi", "mp2"), ("ogg", "libopus"), ("mp2", "mp2")],
)  # fmt: skip
def test_what_ffmpeg_writes_looks_like_audio(container, codec):
    data = by_ffmpeg(np.zeros(4096, np.float32), container, codec, 48_000)
    assert looks_like_audio(data[:HEAD])


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"A dog.", "Größe".encode("utf-16"), b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\0\x10JFIF", b"PK\x03\x04",
     b"\x93NUMPY\x01\x00", b"RIFF\0\0\0\0WEBPVP8 ", b"\0\0\0\x1cftypavif", b"7", b"\x1f\x8b\x08", b"\xff", b"\0" * 16],
)  # fmt: skip
def test_what_is_no_audio_does_not(data):
    assert not looks_like_audio(data[:HEAD])
