"""SeqIO sources over any reader of clips: the base of all sources that carry their audio along."""

import functools
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import seqio
import tensorflow as tf

from bagpiper_jax import outcomes
from bagpiper_jax.corpora.clip_readers import ClipReader, ClipWithAudio
from bagpiper_jax.data.audio_digest import files_digest
from bagpiper_jax.outcomes import Fatal, Rejected
from tasks import settings

_log = logging.getLogger(__name__)

CARRIED_FEATURES = {
    "clip": tf.string,
    "origin": tf.string,
    "fault": tf.string,
    "sound_names": tf.string,
    "sounds": tf.string,
}
"""What a source emits: a clip as JSON or its encoded `Outcome`, the place it was read at, audio files by name."""

_VECTORS = ("sound_names", "sounds")


class ClipSource(seqio.DataSource):
    """Records of a corpus by number, so that each shard reads only its own.

    A subclass opens the reader of a split. A record that cannot be used comes as its fault, which the preprocessor
    turns into a counted rejection.
    """

    def __init__(self, corpus: str, splits: Mapping[str, object]):
        self.corpus, self.patterns = corpus, dict(splits)
        super().__init__(splits=self.patterns)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.corpus!r}, {self.patterns!r})"

    def open(self, directory: Path, split: str) -> ClipReader:
        """The reader of a split of the corpus in `directory`. Raises CorpusError: its files cannot be used."""
        raise NotImplementedError

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    def list_shards(self, split: str) -> list[str]:
        return [split]

    def num_input_examples(self, split: str) -> int:
        """Records of a split, faulty ones included."""
        return len(self.reader(split))

    def reader(self, split: str) -> ClipReader:
        """The reader of a split, opened once in a process; `opened.cache_clear()` has files looked at anew."""
        return opened(self, settings.current().corpus_directory(self.corpus), split)

    def get_dataset(
        self, split="train", shuffle=True, seed=None, shard_info=None, *, sequence_length=None, use_cached=False,
        num_epochs=1,
    ) -> tf.data.Dataset:  # fmt: skip
        """Examples of `CARRIED_FEATURES`; a shard is a run of records, as files are read fastest."""
        reader = self.reader(split)
        begin, end = block(len(reader), shard_info)
        read = functools.partial(_features, reader)

        def to_features(number):
            values = tf.numpy_function(read, [number], list(CARRIED_FEATURES.values()), stateful=False)
            features = dict(zip(CARRIED_FEATURES, values, strict=True))
            for name, value in features.items():
                value.set_shape([None] if name in _VECTORS else [])
            return features

        return tf.data.Dataset.range(begin, end).map(to_features)

    def read_shard(self, split: str, shard: int, shards: int) -> Iterator[dict]:
        """The examples of a shard of `get_dataset`, without TensorFlow, as the cache job reads them.

        A subclass that gives other examples in one of the two must give them in the other.
        """
        reader = self.reader(split)
        numbers = range(*block(len(reader), seqio.ShardInfo(shard, shards)))
        return (dict(zip(CARRIED_FEATURES, _features(reader, number), strict=True)) for number in numbers)

    def input_files(self) -> list[Path]:
        """Files whose hashes are taken anew each time; the large ones are in `audio_digest`."""
        return []

    def audio_digest(self) -> str:
        """Digest of everything that the records are made of. Raises CorpusError: files are missing."""
        directory = settings.current().corpus_directory(self.corpus)
        return files_digest(directory, {path for split in self.splits for path in self.reader(split).files()})


@functools.lru_cache(maxsize=16)
def opened(source: ClipSource, directory: Path, split: str) -> ClipReader:
    """The reader of a split, kept."""
    return source.open(directory, split)


def block(total: int, shard_info: seqio.ShardInfo | None) -> tuple[int, int]:
    """The records of a shard: runs of equal length, the first ones longer by one where they do not divide."""
    if shard_info is None:
        return 0, total
    size, longer = divmod(total, shard_info.num_shards)
    begin = shard_info.index * size + min(shard_info.index, longer)
    return begin, begin + size + (shard_info.index < longer)


def _features(reader: ClipReader, number: np.int64) -> list:
    number, origin = int(number), f"record {int(number)}"
    try:
        origin = reader.origin(number)
        return features_of(reader[number], origin)
    except Exception as error:  # a reader may be anyone's code; the record is named, the others go on
        _log.debug("%s cannot be used", origin, exc_info=error)
        return fault_of(Rejected.by(error, origin), origin)


def features_of(carried: ClipWithAudio, origin: str) -> list:
    """`CARRIED_FEATURES` of a record."""
    clip = json.dumps(vars(carried.clip), ensure_ascii=False).encode()
    names = [name.encode() for name in carried.sounds]
    return [clip, origin.encode(), b"", _strings(names), _strings(list(carried.sounds.values()))]


def fault_of(fault: Rejected | Fatal, origin: str) -> list:
    """`CARRIED_FEATURES` of a record that cannot be used, or behind which the source cannot go on."""
    return [b"", origin.encode("utf-8", "replace"), outcomes.encode(fault), _strings([]), _strings([])]


def _strings(values: list[bytes]) -> np.ndarray:
    """Bytes as objects: numpy's own strings lose trailing zero bytes."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
