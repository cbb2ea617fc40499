"""SeqIO sources over our manifests."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import seqio
import tensorflow as tf

from bagpiper_jax.data.audio_digest import audio_digest
from bagpiper_jax.data.codes import MANIFEST as CODES_MANIFEST
from bagpiper_jax.data.codes import CodeStoreError, store_directory
from bagpiper_jax.manifest import MANIFEST, SPLITS, Clip, read_manifest
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
        return len(_of_split(*_version(self.corpus), split))

    def read_shard(self, split: str, shard: int, shards: int) -> Iterator[dict]:
        """A shard of the split as the cache job reads it: the clips themselves, and no TensorFlow."""
        return ({"clip": clip} for clip in _of_split(*_version(self.corpus), split)[shard::shards])

    def input_files(self) -> list[Path]:
        """What the examples are made of; their hashes become part of the cache's provenance.

        Raises:
            ManifestError: there is no manifest, or a line of it is no clip.
        """
        clips(self.corpus)
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
            made_of = json.loads(path.read_text(encoding="utf-8")).get("audio", digest)
            if made_of != digest:
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
    lines = [json.dumps(vars(clip), ensure_ascii=False) for clip in _of_split(*_version(corpus), split)]
    return tf.data.Dataset.from_tensor_slices({"clip": tf.constant(lines, tf.string, shape=[len(lines)])})


def clips(corpus: str) -> tuple[Clip, ...]:
    """All clips of a corpus, in manifest order. Raises ManifestError."""
    return _read(*_version(corpus))[0]


def audio_paths(corpus: str) -> dict[str, str]:
    """Clip id → audio path relative to the corpus, all splits: a dialogue may speak of other clips than its own.

    A corpus without a manifest has none: its sources carry their audio along.
    """
    directory, modified = _version(corpus)
    return _read(directory, modified)[1] if modified else {}


def _version(corpus: str) -> tuple[str, int]:
    directory = settings.current().corpus_directory(corpus)
    path = directory / MANIFEST
    return str(directory), path.stat().st_mtime_ns if path.exists() else 0


@functools.lru_cache(maxsize=12)
def _of_split(directory: str, modified: int, split: str) -> tuple[Clip, ...]:
    return tuple(clip for clip in _read(directory, modified)[0] if clip.split == split)


@functools.lru_cache(maxsize=4)
def _audio(directory: str, modified: int) -> str:
    return audio_digest(directory, _read(directory, modified)[0])


@functools.lru_cache(maxsize=4)
def _read(directory: str, modified: int) -> tuple[tuple[Clip, ...], dict[str, str]]:
    found = tuple(read_manifest(directory))
    return found, {clip.id: clip.audio for clip in found if clip.audio}
