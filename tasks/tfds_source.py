"""SeqIO sources over TensorFlow Datasets: a prepared data set and a mapping to what is known of each clip.

Nothing is downloaded here: prepare a data set once with `tfds build`, or take a directory that has it.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from bagpiper_jax import audio
from bagpiper_jax.captions import AnnotationError
from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.clip_readers import ClipWithAudio, Defaults, clip_of
from bagpiper_jax.outcomes import Fatal, RecordError, Rejected
from tasks import settings
from tasks.clip_source import CARRIED_FEATURES, ClipSource, block, fault_of, features_of
from tasks.tfds_mappings import TfdsMapping

OVERHANG = 0.1
"""Seconds beyond the longest clip that are cut off: GTZAN's 30 s last 30.01."""


class TfdsSource(ClipSource):
    """A data set of TFDS.

    Args:
        name: of the data set, with its config and version if need be: `librispeech`, `nsynth/gansynth_subset:2.3.3`.
        mapping: how its examples are read; `tasks.tfds_mappings` has some.
        splits: our split → theirs; `"train[:90%]"` is understood.
        data_dir: where it was prepared; relative paths are below the data root, "" is TFDS's own directory.
        corpus: directory below the data root where codes are looked up; the data set's name by default.
    """

    def __init__(
        self, name: str, mapping: TfdsMapping, splits: Mapping[str, str], data_dir: str = "", corpus: str = ""
    ):
        self._name, self._mapping, self._data_dir = name, mapping, data_dir
        super().__init__(corpus or name.replace("/", "_").replace(":", "_"), splits)

    def __repr__(self) -> str:
        return f"TfdsSource({self._name!r}, {self.patterns!r}, {self._mapping.annotate.__qualname__})"

    def functions(self) -> list[Callable]:
        """What the examples depend on besides the files; their modules become part of the cache's provenance."""
        return [self._mapping.annotate, self._mapping.identify]

    def num_input_examples(self, split: str) -> int:
        return int(self._records(split).cardinality())

    def get_dataset(
        self, split="train", shuffle=True, seed=None, shard_info=None, *, sequence_length=None, use_cached=False,
        num_epochs=1,
    ) -> tf.data.Dataset:  # fmt: skip
        """Examples of `CARRIED_FEATURES`."""
        total = self.num_input_examples(split)
        begin, end = block(total, shard_info)
        records = self._records(split, None if shard_info is None else (begin, end))
        read = functools.partial(self._read, records, split)
        signature = {
            name: tf.TensorSpec([None] if name in ("sound_names", "sounds") else [], dtype)
            for name, dtype in CARRIED_FEATURES.items()
        }
        dataset = tf.data.Dataset.from_generator(read, output_signature=signature)
        return dataset.apply(tf.data.experimental.assert_cardinality(end - begin))

    def read_shard(self, split: str, shard: int, shards: int) -> Iterator[dict]:
        part = block(self.num_input_examples(split), seqio.ShardInfo(shard, shards))
        return self._read(self._records(split, part), split)

    def audio_digest(self) -> str:
        """Identity of the prepared data set: name, version, and the checksums that TFDS recorded."""
        info = self._builder.info
        return assembly.digest(
            info.full_name, {split: str(info.splits.get(name)) for split, name in self.patterns.items()}
        )

    @functools.cached_property
    def _builder(self) -> tfds.core.DatasetBuilder:
        root = settings.current().data_root
        directory = str(Path(root) / self._data_dir) if self._data_dir else None
        try:
            return tfds.builder(self._name, data_dir=directory, try_gcs=False)
        except tfds.core.DatasetNotFoundError as error:
            raise CorpusError(f"TFDS has no data set {self._name!r}: {str(error).splitlines()[0]}") from error

    def _records(self, split: str, part: tuple[int, int] | None = None) -> tf.data.Dataset:
        theirs = self.patterns[split]
        if part is not None:
            theirs = _sliced(theirs, *part)
        # One file after the other, so that the order depends on nothing but the data set.
        read = tfds.ReadConfig(add_tfds_id=True, interleave_cycle_length=1, try_autocache=False)
        try:
            return self._builder.as_dataset(split=theirs, shuffle_files=False, read_config=read)
        except (AssertionError, FileNotFoundError, ValueError, KeyError) as error:
            raise CorpusError(
                f"TFDS data set {self._name} cannot give split {theirs!r}: {str(error).splitlines()[0]}; prepare it "
                f"with `tfds build {self._name}` and name its directory (data_dir)"
            ) from error

    def _read(self, records: tf.data.Dataset, split: str) -> Iterator[dict]:
        examples, read = iter(tfds.as_numpy(records)), 0
        while True:
            try:
                example = next(examples)
            except StopIteration:
                return
            except tf.errors.OpError as error:  # a damaged file: what comes behind it cannot be reached
                place, then = f"{self._name} {split}", error.message.splitlines()[0]
                explanation = f"{place}: {read} examples could be read, then: {then} ({self._remedy})"
                yield _features(fault_of(Fatal(explanation), place))
                return
            read += 1
            origin = f"{self._name} {example['tfds_id'].decode()}"
            try:
                yield _features(features_of(self._clip_with_audio(example, split), origin))
            except (
                Exception
            ) as error:  # a mapping may be anyone's code; the example is named, the others go on
                fault = Rejected.by(error, origin)
                yield _features(
                    fault_of(dataclasses.replace(fault, remedy=fault.remedy or self._remedy), origin)
                )

    @property
    def _remedy(self) -> str:
        return f"prepare {self._name} again, or mend its mapping"

    def _clip_with_audio(self, example: dict, split: str) -> ClipWithAudio:
        mapping = self._mapping
        rate = self._builder.info.features[mapping.audio].sample_rate
        samples = _waveform(example[mapping.audio], rate, settings.current().max_seconds)
        clip_id, group = mapping.identify(example)
        clip_id = assembly.safe_id(clip_id or example["tfds_id"].decode())
        try:
            known = mapping.annotate(example, len(samples) / audio.SAMPLE_RATE, self._label)
        except AnnotationError as error:
            raise RecordError("bad_annotation", str(error), "repair the mapping") from error
        fields = {"id": clip_id, "audio": clip_id, "annotation": known.to_json(), "group": group or clip_id}
        defaults = Defaults(mapping.domain, mapping.language, mapping.licence, self._name)
        return ClipWithAudio(clip_of(fields, split, defaults), {clip_id: audio.encode_flac(samples)})

    def _label(self, path: str, number: int) -> str:
        feature = self._builder.info.features
        for name in path.split("/"):
            feature = feature[name]
        return feature.int2str(int(number))


def _features(values: list) -> dict:
    return dict(zip(CARRIED_FEATURES, values, strict=True))


def _sliced(split: str, begin: int, end: int) -> tfds.core.ReadInstruction | str:
    """Records `begin` to `end` of a split; of one that is a part already, the parts of its own parts are unknown."""
    if "[" in split or "+" in split:
        raise CorpusError(
            f"split {split!r} is a part already; cache it as one shard (CacheConfig.shard_inputs)"
        )
    return tfds.core.ReadInstruction(split, from_=begin, to=end, unit="abs")


def _waveform(samples: np.ndarray, rate: int | None, max_seconds: float) -> np.ndarray:
    """Float32 [samples] at 16 kHz of a TFDS audio feature; integers are 16-bit PCM, of several channels the first."""
    if rate is None:
        raise RecordError(
            "no_sample_rate", "the data set does not state it", "use a config with decoded audio"
        )
    samples = np.asarray(samples)
    samples = samples[:, 0] if samples.ndim == 2 else samples
    if np.issubdtype(samples.dtype, np.integer):
        if samples.size and not -32768 <= samples.min() <= samples.max() <= 32767:
            raise RecordError(
                "out_of_range_audio", f"a sample of {np.abs(samples).max()}", "convert it to 16 bits"
            )
        samples = samples / np.float32(32768)
    samples = samples.astype(np.float32)
    if not np.isfinite(samples).all():
        raise RecordError("not_finite_audio", "NaN or infinite samples", audio.REMEDIES["not_finite"])
    limit = round(max_seconds * rate)
    if limit < len(samples) <= limit + OVERHANG * rate:
        samples = samples[:limit]
    if len(samples) < audio.MIN_SECONDS * rate:
        raise RecordError("too_short_audio", f"{len(samples)} samples", audio.REMEDIES["too_short"])
    return audio.resample(samples, rate, audio.SAMPLE_RATE)
