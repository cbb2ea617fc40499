"""SeqIO sources over our manifests."""

import array
import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import seqio
import tensorflow as tf

from bagpiper_jax.data.audio_digest import audio_files, audio_files_digest
from bagpiper_jax.data.codes import MANIFEST as CODES_MANIFEST
from bagpiper_jax.data.codes import CodeStoreError, read_manifest, store_directory
from bagpiper_jax.manifest import MANIFEST, SPLITS, Clip, read_at, read_placed
from tasks import settings


class ManifestSource(seqio.FunctionDataSource):
    """The clips of `<data_root>/<corpus>/manifest.jsonl`: one feature `clip`, a clip as JSON."""

    def __init__(self, corpus: str):
        self.corpus = corpus
        super().__init__(functools.partial(_dataset, corpus), splits=SPLITS)

    def __repr__(self) -> str:
        return f"ManifestSource({self.corpus!r})"

    def num_input_examples(self, split: str) -> int:
        """Clips of a split; lets SeqIO mix in proportion to size."""
        return len(_scanned(self.corpus).places[split])

    def read_shard(self, split: str, shard: int, shards: int) -> Iterator[dict]:
        """A shard of the split as the cache job reads it: the clips themselves, and no TensorFlow."""
        return ({"clip": clip} for clip in _scanned(self.corpus).clips(split, shard, shards))

    def input_files(self) -> list[Path]:
        """What the examples are made of; their hashes become part of the cache's provenance.

        Raises:
            ManifestError: there is no manifest, or a line of it is no clip.
        """
        _scanned(self.corpus)
        directory = settings.current().corpus_directory(self.corpus)
        return [directory / MANIFEST, *self._codes()]

    def audio_digest(self) -> str:
        """Digest of the audio that the examples listen to, or that their codes were made of.

        Raises:
            ManifestError: there is no manifest.
            CodeStoreError: the codes were made of other audio.
        """
        digest = _audio(*_version(self.corpus))
        for path in self._codes():
            if (read_manifest(path).audio or digest) != digest:
                raise CodeStoreError(
                    f"audio of {settings.current().corpus_directory(self.corpus)} changed since {path.parent} "
                    "was made; run tokenize_audio again"
                )
        return digest

    def _codes(self) -> list[Path]:
        current = settings.current()
        directory = store_directory(current.corpus_directory(self.corpus), current.codec)
        codes = directory / CODES_MANIFEST
        return [codes] if current.codec and codes.exists() else []


def _dataset(
    corpus: str, split: str, shuffle_files: bool = False, seed: int | None = None
) -> tf.data.Dataset:
    # One tensor of lines, not a generator: tf.data then slices it without entering Python.
    lines = [json.dumps(vars(clip), ensure_ascii=False) for clip in _scanned(corpus).clips(split)]
    return tf.data.Dataset.from_tensor_slices({"clip": tf.constant(lines, tf.string, shape=[len(lines)])})


def audio_paths(corpus: str) -> Mapping[str, str]:
    """Clip id → audio path relative to the corpus, all splits: a dialogue may speak of other clips than its own.

    A corpus without a manifest has none: its sources carry their audio along.
    """
    directory, modified = _version(corpus)
    return _scan(directory, modified).audio if modified else {}


@dataclasses.dataclass(frozen=True)
class _Scanned:
    """What is remembered of a manifest, which may be larger than the memory.

    Attributes:
        places: split → the bytes at which its clips' lines begin.
        audio: clip id → audio path.
        heard: paths of all audio that the clips are made of.
    """

    directory: str
    places: dict[str, array.array]
    audio: dict[str, str]
    heard: set[str]

    def clips(self, split: str, shard: int = 0, shards: int = 1) -> Iterator[Clip]:
        """Read anew each time: authors may change what they are given."""
        return read_at(self.directory, self.places[split][shard::shards])


def _scanned(corpus: str) -> _Scanned:
    """Raises ManifestError: there is no manifest, or a line of it is no clip."""
    return _scan(*_version(corpus))


def _version(corpus: str) -> tuple[str, int]:
    directory = settings.current().corpus_directory(corpus)
    path = directory / MANIFEST
    return str(directory), path.stat().st_mtime_ns if path.exists() else 0


@functools.lru_cache(maxsize=4)
def _audio(directory: str, modified: int) -> str:
    return audio_files_digest(directory, _scan(directory, modified).heard)


@functools.lru_cache(maxsize=4)
def _scan(directory: str, modified: int) -> _Scanned:
    places, audio = {split: array.array("q") for split in SPLITS}, {}

    def noted() -> Iterator[Clip]:
        for place, clip in read_placed(directory):
            places[clip.split].append(place)
            if clip.audio:
                audio[clip.id] = clip.audio
            yield clip

    return _Scanned(directory, places, audio, heard=audio_files(noted()))
