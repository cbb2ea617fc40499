"""SeqIO sources over files that carry their audio: WebDataset tars, Parquet tables, ESPnet's datasets.

Paths are relative to `<data_root>/<corpus>`, where codes of the corpus are looked up too.
"""

from collections.abc import Mapping
from pathlib import Path

from bagpiper_jax.corpora.clip_readers import Defaults, matching
from bagpiper_jax.corpora.espnet import specifiers
from bagpiper_jax.corpora.espnet.samples import EspnetReader
from bagpiper_jax.corpora.parquet import ParquetReader
from bagpiper_jax.corpora.tars import TarReader
from tasks.clip_source import ClipSource

Patterns = Mapping[str, str | tuple[str, ...]]


class TarSource(ClipSource):
    """WebDataset tars (`corpora.tars`).

    Args:
        corpus: directory below the data root.
        splits: split → glob patterns, `{"train": "train-*.tar"}`.
        **defaults: fields of `corpora.clip_readers.Defaults`.
    """

    def __init__(self, corpus: str, splits: Patterns, **defaults: str):
        self._defaults = Defaults(**{"source": corpus, **defaults})
        super().__init__(corpus, splits)

    def open(self, directory: Path, split: str) -> TarReader:
        return TarReader(matching(directory, self.patterns[split]), split, self._defaults)


class ParquetSource(ClipSource):
    """Parquet tables with embedded audio (`corpora.parquet`).

    Args:
        corpus, splits, **defaults: as of `TarSource`.
        columns: our field → their column, `{"caption": "qwen_caption"}`; others keep their names.
    """

    def __init__(self, corpus: str, splits: Patterns, columns: Mapping[str, str] = {}, **defaults: str):  # noqa: B006
        self._defaults, self._columns = Defaults(**{"source": corpus, **defaults}), dict(columns)
        super().__init__(corpus, splits)

    def __repr__(self) -> str:
        return f"{super().__repr__()} columns {self._columns!r}"

    def open(self, directory: Path, split: str) -> ParquetReader:
        return ParquetReader(matching(directory, self.patterns[split]), split, self._columns, self._defaults)


class EspnetSource(ClipSource):
    """ESPnet's datasets by their specifiers: dataset JSON with any reader, dialogue JSONL, archives.

    Args:
        corpus: directory below the data root that relative paths in the files start from.
        splits: split → specifiers, `{"train": ("audio_to_text:clotho:clotho.json",)}`; factors are left to rates.
        **defaults: as of `TarSource`.
    """

    def __init__(self, corpus: str, splits: Patterns, **defaults: str):
        self._defaults = Defaults(**{"source": corpus, **defaults})
        super().__init__(corpus, splits)

    def open(self, directory: Path, split: str) -> EspnetReader:
        given: str | tuple[str, ...] = self.patterns[split]
        texts = [given] if isinstance(given, str) else given
        parsed = [specifiers.parse(text, {}, directory) for text in texts]
        return EspnetReader(parsed, directory, split, self._defaults)
