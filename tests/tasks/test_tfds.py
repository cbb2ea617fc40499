"""Data sets of TFDS as sources, on TFDS's own mocked data and on mocked examples of realistic length."""

import contextlib
import dataclasses
import functools

import numpy as np
import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds
from task_helpers import cache_mixture, caches, config

from bagpiper_jax import outcomes
from bagpiper_jax.caching.shards import ExportError
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.text import ByteTokenizer
from tasks import mixtures, pretraining, settings, tfds_mappings
from tasks.tfds_source import TfdsSource

DATA_SETS = {
    "librispeech": (tfds_mappings.LIBRISPEECH, "train_clean100"),
    "libritts": (tfds_mappings.LIBRITTS, "train_clean100"),
    "ljspeech": (tfds_mappings.LJSPEECH, "train"),
    "vctk": (tfds_mappings.VCTK, "train"),
    "speech_commands": (tfds_mappings.SPEECH_COMMANDS, "train"),
    "gtzan": (tfds_mappings.GTZAN, "train"),
    "nsynth": (tfds_mappings.NSYNTH, "train"),
}


def source(name: str, **fields) -> TfdsSource:
    mapping, split = DATA_SETS[name]
    return TfdsSource(name, mapping, {"train": split}, **fields)


@contextlib.contextmanager
def mocked(examples: list[dict]):
    """TFDS giving these examples, sliced as it slices prepared files."""

    def as_dataset(self, split, read_config=None, **_):
        begin, end = (split.from_, split.to) if hasattr(split, "from_") else (0, len(examples))
        features = self.info.features

        def generate():
            for number in range(len(examples))[begin:end]:
                yield {"tfds_id": f"{self.name}-{number}", **examples[number]}

        signature = {"tfds_id": tf.TensorSpec([], tf.string), **_signature(features)}
        dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
        return dataset.apply(tf.data.experimental.assert_cardinality(len(range(len(examples))[begin:end])))

    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        yield


def _signature(features):
    return tf.nest.map_structure(
        lambda spec: tf.TensorSpec(spec.shape, spec.dtype), features.get_tensor_spec()
    )


def tone(seconds: float, rate: int) -> np.ndarray:
    return (3000 * np.sin(np.arange(round(seconds * rate)) * 0.05)).astype(np.int16)


def librispeech(number: int, seconds: float = 1.0, **fields) -> dict:
    example = {"speech": tone(seconds, 16000), "text": f"NUMBER {number}", "speaker_id": 7, "chapter_id": 1}
    return {**example, "id": f"7-1-{number}", **fields}


def gtzan(seconds: float, label: int = 0) -> dict:
    return {
        "audio": tone(seconds, 22050).astype(np.int64),
        "label": label,
        "audio/filename": f"{seconds}.wav",
    }


@functools.cache
def register(name: str) -> str:
    task = f"tfds_{name}"
    mixtures.add_task(task, source(name), pretraining.audio_to_caption)
    return task


def cached(tmp_path, name: str, **fields):
    task = register(name)
    defaults = {
        "mixtures": (task,),
        "rates": {},
        "splits": ("train",),
        "max_reject_frac": 1.0,
        "shard_inputs": 100,
    }
    return caches(cache_mixture(config(tmp_path, **{**defaults, **fields})))[task]


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_mapping_reads_tfds_own_mocked_data(tmp_path, name):
    """The mock's audio is 5 to 49 samples, except where the shape is fixed; such clips are too short, and said so."""
    settings.configure(settings.Settings(data_root=str(tmp_path)))
    with tfds.testing.mock_data(num_examples=4):
        made = source(name)
        assert made.num_input_examples("train") == 4
        examples = list(made.get_dataset("train").as_numpy_iterator())
    assert len(examples) == 4 and all(name in e["origin"].decode() for e in examples)
    found = {outcomes.decode(e["fault"]).counted_as for e in examples}
    assert found == ({"ok"} if name == "nsynth" else {"rejected too_short_audio"})
    assert len({e["origin"] for e in examples}) == 4


def test_librispeech_becomes_speech_with_transcript_and_speaker(tmp_path):
    examples = [librispeech(i) for i in range(5)]
    examples[1]["text"], examples[2] = "  ", librispeech(2, seconds=40.0)
    with mocked(examples):
        cache = cached(tmp_path, "librispeech")
    assert cache.manifest["counts"] == {"ok": 3, "rejected audio_too_long": 1, "rejected empty_text": 1}
    rejects = {r["id"]: r["detail"] for r in cache.rejects()}
    assert "librispeech librispeech-1" in rejects["librispeech librispeech-1"]
    assert "librispeech librispeech-2: " in rejects["7-1-2"]
    heard, said = cache.read(0).messages()
    np.testing.assert_array_equal(heard.content * 32768, tone(1.0, 16000))
    assert "number 0" in ByteTokenizer().decode(said.content)


def test_shards_of_a_data_set_join_to_the_whole(tmp_path):
    with mocked([librispeech(i, 0.1) for i in range(7)]):
        whole = cached(tmp_path, "librispeech")
        parts = cached(tmp_path, "librispeech", shard_inputs=3, cache_dir=str(tmp_path / "other"))
        shards = [
            source("librispeech").get_dataset("train", shard_info=seqio.ShardInfo(i, 3)) for i in range(3)
        ]
        ids = [e["origin"].decode()[-1] for shard in shards for e in shard.as_numpy_iterator()]
    assert len(parts.manifest["shards"]) == 3 and ids == list("0123456")
    assert [parts.read(i).id for i in range(7)] == [whole.read(i).id for i in range(7)]


def test_music_keeps_its_genre_and_thirty_seconds_and_a_bit_are_thirty(tmp_path):
    names = tfds.builder("gtzan").info.features["label"].names
    with mocked(
        [gtzan(30.013, names.index("jazz")), gtzan(31.0), {**gtzan(1.0), "audio": np.full(9000, 40000)}]
    ):
        cache = cached(tmp_path, "gtzan")
    assert cache.manifest["counts"] == {
        "ok": 1,
        "rejected audio_too_long": 1,
        "rejected out_of_range_audio": 1,
    }
    heard, said = cache.read(0).messages()
    assert len(heard.content) == 30 * 16000 and "jazz" in ByteTokenizer().decode(said.content)


def test_commands_tell_words_from_silence(tmp_path):
    words = tfds.builder("speech_commands").info.features["label"].names
    wanted = ("yes", "_silence_", "_unknown_")
    with mocked([{"audio": tone(1.0, 16000), "label": words.index(w)} for w in wanted]):
        cache = cached(tmp_path, "speech_commands")
    said = [ByteTokenizer().decode(cache.read(i).messages()[1].content) for i in range(3)]
    assert '"yes"' in said[0] or "“yes”" in said[0]
    assert "background noise" in said[1] and "no speech" in said[1] and "spoken word" in said[2]


def test_a_damaged_file_ends_the_job_and_a_faulty_mapping_does_not(tmp_path):
    def broken(example, seconds, labels):
        return {}[example["label"]]

    mapping = dataclasses.replace(tfds_mappings.SPEECH_COMMANDS, annotate=broken)
    mixtures.add_task(
        "tfds_broken",
        TfdsSource("speech_commands", mapping, {"train": "train"}),
        pretraining.audio_to_caption,
    )
    job = config(tmp_path, mixtures=("tfds_broken",), rates={}, splits=("train",), max_reject_frac=1.0)
    with mocked([{"audio": tone(1.0, 16000), "label": 3}] * 2):
        with pytest.raises(ExportError, match="tfds_broken has no examples .*'rejected error_KeyError': 2"):
            cache_mixture(job)
    damaged = [librispeech(0, 0.1), {"speech": "no samples"}, librispeech(2, 0.1)]
    with (
        mocked(damaged),
        pytest.raises(ExportError, match="librispeech train: 1 examples could be read, then"),
    ):
        cached(tmp_path, "librispeech")


def test_what_is_not_there_is_refused_by_name(tmp_path):
    settings.configure(settings.Settings(data_root=str(tmp_path)))
    with pytest.raises(CorpusError, match="has no data set 'libreespeech'"):
        TfdsSource("libreespeech", tfds_mappings.GTZAN, {"train": "train"}).num_input_examples("train")
    with pytest.raises(CorpusError, match="prepare it with `tfds build gtzan`"):
        source("gtzan", data_dir="nowhere").num_input_examples("train")
