import io
import json

import numpy as np
import pytest
import soundfile
import threadpoolctl
from sound_files import by_ffmpeg

from bagpiper_jax import audio
from bagpiper_jax.audio import features, flac


def sine(seconds=1.0, hertz=440.0, rate=16_000):
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def reason_of(source, **limits):
    with pytest.raises(audio.AudioError) as caught:
        audio.read(source, **limits)
    assert caught.value.reason in audio.REMEDIES
    assert str(caught.value.path) in str(caught.value) and audio.REMEDIES[caught.value.reason] in str(
        caught.value
    )
    return caught.value.reason


@pytest.mark.parametrize(
    "name, rate, subtype, tolerance",
    [
        ("a.wav", 16_000, "PCM_16", 1e-4),
        ("a.wav", 16_000, "PCM_U8", 1 / 128),
        ("a.wav", 16_000, "PCM_24", 1e-6),
        ("a.wav", 16_000, "FLOAT", 1e-7),
        ("a.wav", 44_100, "DOUBLE", 2e-3),
        ("a.aiff", 8_000, "PCM_16", 2e-3),
        ("a.flac", 48_000, "PCM_24", 2e-3),
        ("a.ogg", 16_000, "VORBIS", 5e-2),
    ],
)
def test_every_encoding_reads_to_the_same_waveform(tmp_path, name, rate, subtype, tolerance):
    soundfile.write(tmp_path / name, sine(rate=rate), rate, subtype=subtype)
    samples = audio.read(tmp_path / name)
    assert samples.dtype == np.float32 and samples.shape == (16_000,)
    # Resampling rings at the ends of a tone that starts and stops.
    np.testing.assert_allclose(samples[800:-800], sine()[800:-800], atol=tolerance)


def test_stereo_gives_the_first_channel(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([sine(), -sine(hertz=1000)], axis=1), 16_000)
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav"), sine(), atol=1e-4)


@pytest.mark.parametrize("disguise", ["a.wav", "a.raw", "a.txt", "a"])
def test_content_decides_not_the_name(tmp_path, disguise):
    soundfile.write(tmp_path / "a.mp3", sine(), 16_000)
    (tmp_path / "a.mp3").rename(tmp_path / disguise)
    samples = audio.read(tmp_path / disguise)
    assert abs(len(samples) - 16_000) < 2400
    assert 0.35 < np.abs(samples).max() < 0.5


def test_bytes_read_like_files(tmp_path):
    soundfile.write(tmp_path / "a.wav", sine(rate=22_050), 22_050)
    np.testing.assert_array_equal(
        audio.read((tmp_path / "a.wav").read_bytes()), audio.read(tmp_path / "a.wav")
    )


def write_m4a(path, samples):
    pytest.importorskip("av", reason="PyAV is not installed: containers that only ffmpeg reads")
    path.write_bytes(by_ffmpeg(samples, "ipod", "aac"))


def test_a_container_only_ffmpeg_reads(tmp_path):
    write_m4a(tmp_path / "a.wav", sine(2.0))
    samples = audio.read(tmp_path / "a.wav")
    assert abs(len(samples) - 32_000) < 3000
    spectrum = np.abs(np.fft.rfft(samples[8000:24_000]))
    assert spectrum.argmax() == 440
    assert reason_of(tmp_path / "a.wav", max_seconds=1.0) == "too_long"


def test_a_playlist_opens_no_other_file(tmp_path):
    write_m4a(tmp_path / "secret.m4a", sine())
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path}/secret.m4a\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.wav").write_text(playlist)
    assert reason_of(tmp_path / "list.wav") == "corrupt"


def test_bad_files_are_refused_by_reason(tmp_path):
    (tmp_path / "zero.wav").write_bytes(b"")
    (tmp_path / "noise.wav").write_bytes(np.random.default_rng(0).bytes(20_000))
    soundfile.write(tmp_path / "header.wav", np.zeros(0, np.float32), 16_000)
    soundfile.write(tmp_path / "short.wav", sine(0.01), 16_000)
    soundfile.write(tmp_path / "long.wav", sine(30.1), 16_000)
    for name, bad in (("nan", np.nan), ("inf", np.inf)):
        samples = sine()
        samples[100] = bad
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000, subtype="FLOAT")
    found = {path.stem: reason_of(path) for path in tmp_path.iterdir()}
    assert found == {
        "zero": "empty", "header": "empty", "noise": "corrupt", "short": "too_short", "long": "too_long",
        "nan": "not_finite", "inf": "not_finite",
    }  # fmt: skip
    assert reason_of(tmp_path / "none.wav") == "missing"
    assert reason_of(tmp_path) == "missing"


def test_a_flac_cut_in_half_is_corrupt(tmp_path):
    data = audio.encode_flac(np.random.default_rng(0).uniform(-0.5, 0.5, 32_000))
    (tmp_path / "a.flac").write_bytes(data[: len(data) // 2])
    assert reason_of(tmp_path / "a.flac") == "corrupt"


def test_thirty_minutes_are_refused_from_the_header(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.flac", np.zeros(30 * 60 * 16_000, np.int16), 16_000)
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *a, **k: pytest.fail("samples were decoded"))
    assert reason_of(tmp_path / "a.flac") == "too_long"


def test_thirty_seconds_are_accepted(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(30 * 8000, np.int16), 8000)
    assert len(audio.read(tmp_path / "a.wav")) == 480_000


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_sixteen_bits_survive_writing(tmp_path, suffix):
    samples = (np.random.default_rng(0).integers(-32768, 32768, 5000) / 32768).astype(np.float32)
    assert audio.write(tmp_path / f"a{suffix}", samples) == 0
    np.testing.assert_array_equal(audio.read(tmp_path / f"a{suffix}"), samples)
    np.testing.assert_array_equal(audio.decode_flac(audio.encode_flac(samples)), samples)


def test_clipping_is_counted_and_never_wraps(tmp_path, caplog):
    samples = np.array([0.0, 1.5, -2.0, 1.0] * 200, np.float32)
    assert audio.write(tmp_path / "a.wav", samples) == 400
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav")[:4], [0, 1, -1, 1], atol=1e-4)
    audio.encode_flac(samples)
    assert "400 of 800 samples clipped" in caplog.text


def test_nothing_unusable_is_written(tmp_path):
    with pytest.raises(audio.AudioError, match="not_finite"):
        audio.write(tmp_path / "a.wav", np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match=r"\.flac or \.wav, not \.mp3"):
        audio.write(tmp_path / "a.mp3", sine())
    with pytest.raises(audio.AudioError, match="corrupt"):
        audio.decode_flac(b"not a flac")


def whisper_features(samples, normalize):
    transformers = pytest.importorskip("transformers", reason="transformers is the oracle of the front end")
    extractor = transformers.WhisperFeatureExtractor(feature_size=128)
    out = extractor(
        samples, sampling_rate=16_000, do_normalize=normalize, padding="longest", truncation=False,
        return_tensors="np",
    )  # fmt: skip
    return out["input_features"][0].T


def assert_matches_whisper(samples):
    for normalize in (True, False):
        ours, theirs = audio.log_mel(samples, normalize), whisper_features(samples, normalize)
        assert ours.dtype == np.float32 and ours.shape == (audio.mel_frames(len(samples)), 128)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("samples", [320, 401, 1600, 16_001, 47_999])
def test_log_mel_is_whispers(samples):
    rng = np.random.default_rng(samples)
    tone = np.resize(sine(hertz=523), samples)
    assert_matches_whisper((tone + 0.01 * rng.standard_normal(samples)).astype(np.float32))
    assert_matches_whisper((0.03 * rng.standard_normal(samples) + 0.1).astype(np.float32))


def test_log_mel_of_silence_is_finite():
    assert_matches_whisper(np.zeros(1600, np.float32))


def test_log_mel_of_real_clips_is_whispers(demo_clips):
    records = [json.loads(line) for line in (demo_clips / "manifest.jsonl").read_text().splitlines()]
    for record in records[::5]:
        assert_matches_whisper(audio.read(demo_clips / record["audio"], max_seconds=60))


def test_mel_filters_and_resampling_are_librosas():
    librosa = pytest.importorskip("librosa", reason="librosa is the oracle of filters and resampling")
    filters = librosa.filters.mel(sr=16_000, n_fft=400, n_mels=128, fmin=0, fmax=8000)
    np.testing.assert_allclose(features._mel_filters(), filters.T, rtol=2e-7, atol=1e-8)
    for rate in (8000, 22_050, 44_100, 48_000):
        ours = audio.resample(sine(rate=rate), rate, 16_000)
        theirs = librosa.resample(sine(rate=rate), orig_sr=rate, target_sr=16_000, res_type="soxr_hq")
        np.testing.assert_array_equal(ours, theirs)


def test_normalisation_removes_gain():
    wave = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    np.testing.assert_allclose(audio.log_mel(0.1 * wave), audio.log_mel(wave), atol=1e-3)
    assert (
        np.abs(audio.log_mel(0.1 * wave, normalize=False) - audio.log_mel(wave, normalize=False)).min() > 0.4
    )


def test_log_mel_is_the_same_to_the_bit_with_any_number_of_threads():
    """Else two processes of a pod, or a survey and the run it looks at, would see different rows."""
    samples = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    found = []
    for threads in (1, 2, 8):
        with threadpoolctl.threadpool_limits(threads):
            found.append(audio.log_mel(samples))
    np.testing.assert_array_equal(found[1:], [found[0], found[0]])


def test_log_mel_refuses_what_has_no_reflection():
    with pytest.raises(ValueError, match="longer than 200 samples"):
        audio.log_mel(np.zeros(200, np.float32))


def test_frame_and_token_counts():
    table = {0: 0, 1: 1, 8: 1, 9: 2, 50: 7, 96: 12, 97: 13, 100: 13, 101: 14, 1000: 130, 3000: 390}
    assert {frames: audio.tower_tokens(frames) for frames in table} == table
    assert audio.mel_frames(16_000) == 100 and audio.mel_frames(16_159) == 100


def test_features_need_only_numpy_and_scipy():
    import subprocess
    import sys

    code = (
        "import sys\n"
        "for name in ('soundfile', 'soxr', 'av', 'librosa', 'miniaudio'): sys.modules[name] = None\n"
        "import numpy as np\nfrom bagpiper_jax import audio\n"
        "print(audio.log_mel(np.ones(1600, np.float32)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "(10, 128)", done.stderr


def without_miniaudio(monkeypatch):
    monkeypatch.setattr(flac, "drflac", lambda: None)


def test_both_flac_decoders_give_the_same_samples(monkeypatch):
    pytest.importorskip("miniaudio")
    wave = np.random.default_rng(0).normal(scale=0.3, size=40_000).astype(np.float32)
    data = audio.encode_flac(wave)
    assert audio.flac_samples(data) == 40_000 and audio.flac_samples(b"RIFF" + data[4:]) is None
    fast = audio.decode_flac(data)
    without_miniaudio(monkeypatch)
    np.testing.assert_array_equal(fast, audio.decode_flac(data))


@pytest.mark.parametrize("fast", [True, False])
def test_damaged_flac_is_an_error_or_the_same_samples(monkeypatch, fast):
    """Where one bit flips in the frames, no decoder may return other samples without a word."""
    if fast:
        pytest.importorskip("miniaudio")
    else:
        without_miniaudio(monkeypatch)
    rng = np.random.default_rng(1)
    data = audio.encode_flac(rng.normal(scale=0.1, size=20_000).astype(np.float32))
    intact, silent = audio.decode_flac(data), 0
    for place in rng.integers(200, len(data), 100):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        try:
            silent += not np.array_equal(audio.decode_flac(bytes(damaged)), intact)
        except audio.AudioError as error:
            assert error.reason == "corrupt"
    assert silent == 0


def test_flac_bytes_are_flac():
    assert soundfile.info(io.BytesIO(audio.encode_flac(sine()))).subtype == "PCM_16"
