"""A WAV that grows can be heard at any moment, and is like any other in the end."""

import io
import wave

import numpy as np
import pytest
import soundfile

from bagpiper_jax import audio

SOUND = (np.sin(np.arange(8000) / 9) / 2).astype(np.float32)


def heard(path) -> np.ndarray:
    return soundfile.read(path, dtype="float32")[0]


def test_what_was_added_is_in_the_file_at_once(tmp_path):
    path = tmp_path / "a.wav"
    audio.write(tmp_path / "whole.wav", SOUND)
    whole = heard(tmp_path / "whole.wav")
    with audio.GrowingWav(path, 16_000) as wav:
        for end in (1, 320, 5000, len(SOUND)):
            wav.add(SOUND[wav.samples : end])
            np.testing.assert_array_equal(heard(path), whole[:end])
            np.testing.assert_array_equal(audio.read(path, min_seconds=0), whole[:end])
    with wave.open(str(path)) as finished:  # which believes the header
        assert finished.getparams()[:4] == (1, 2, 16_000, len(SOUND))
        assert finished.readframes(len(SOUND)) == finished_bytes(whole)
    assert path.read_bytes() == audio.encode_wav(SOUND, 16_000)


def finished_bytes(samples: np.ndarray) -> bytes:
    return (samples * 32768).astype("<i2").tobytes()


def test_a_sound_that_begins_again_takes_the_place_of_the_first(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"an older, longer file" * 10_000)
    with audio.GrowingWav(path, 24_000) as wav:
        wav.add(SOUND)
        wav.restart()
        wav.add(SOUND[:100])
    assert path.read_bytes() == audio.encode_wav(SOUND[:100], 24_000)


def test_what_was_added_before_a_fault_is_whole(tmp_path):
    path = tmp_path / "a.wav"
    with pytest.raises(audio.AudioError, match="NaN"), audio.GrowingWav(path, 16_000) as wav:
        wav.add(SOUND)
        wav.add(np.full(3, np.nan, np.float32))
    assert path.read_bytes() == audio.encode_wav(SOUND, 16_000)


def test_an_encoded_sound_is_that_of_libsndfile():
    data = io.BytesIO(audio.encode_wav(SOUND, 16_000))
    with soundfile.SoundFile(data) as file:
        assert (file.samplerate, file.channels, file.subtype, file.frames) == (16_000, 1, "PCM_16", 8000)
        np.testing.assert_allclose(file.read(dtype="float32"), SOUND, atol=0.51 / 32768)
