"""The clips of an example or a row as files: waveforms as cached, codes through the codec that made them."""

import numpy as np
import pytest
from inspection_helpers import CODEC, random_codec
from synthetic_cache import CODES, STREAMS, example, write_mixture_of

from bagpiper_jax import audio
from bagpiper_jax.batch import BatchShape
from bagpiper_jax.data.cache import CacheError
from bagpiper_jax.jobs import inspect_data
from bagpiper_jax.models.codecs.xcodec.loaded import LoadedXCodec


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    """(path, parameters, fingerprint) of a random codec."""
    return random_codec(tmp_path_factory.mktemp("codec") / "codec.safetensors")


def test_codes_are_decoded_into_files(tmp_path, codec):
    path, parameters, fingerprint = codec
    rng = np.random.default_rng(1)
    codes = rng.integers(0, CODES, (7, STREAMS)).astype(np.int32)
    wave = (0.1 * rng.normal(size=4000)).astype(np.float32)
    sounding = example([("user", "text", "rain"), ("assistant", "audio", codes)])
    heard = example([("user", "audio", wave), ("assistant", "text", "noise")])
    lock = write_mixture_of(tmp_path / "cache", [sounding, heard], codec_fingerprint=fingerprint)
    (expected,) = LoadedXCodec(parameters, CODEC).decode([codes])

    def show(**fields) -> str:
        shape = BatchShape(1, 256, 8)
        config = {"lock": str(lock), "shape": shape, "audio_dir": str(tmp_path / "out"), **fields}
        return inspect_data.inspect(inspect_data.InspectConfig(**config)).said

    assert "wrote" not in show(task="task", index=0), "codes without a codec"
    assert f"wrote {tmp_path}/out/task_0_codes0.wav" in show(task="task", index=0, codec=str(path))
    np.testing.assert_allclose(audio.read(tmp_path / "out/task_0_codes0.wav"), expected, atol=2**-15)
    assert f"wrote {tmp_path}/out/task_1_0.flac" in show(task="task", index=1)
    np.testing.assert_allclose(audio.read(tmp_path / "out/task_1_0.flac"), wave, atol=2**-15)

    row = show(step=0, codec=str(path))  # an epoch is shorter than a row
    of_row = sorted((tmp_path / "out").glob("step0_row0_*_codes0.wav"))
    assert of_row and all(f"wrote {path}" in row for path in of_row)
    for path in of_row:
        np.testing.assert_allclose(audio.read(path), expected, atol=2**-15)


def test_another_codec_is_refused(tmp_path, codec):
    lock = write_mixture_of(tmp_path, [example([("user", "text", "a"), ("assistant", "text", "b")])])
    with pytest.raises(CacheError, match="was cached with codec codec-a, this run uses"):
        inspect_data.inspect(inspect_data.InspectConfig(lock=str(lock), codec=str(codec[0])))
