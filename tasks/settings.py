"""Where tasks find their corpora, tokenizer and codes: set by the job, read when a dataset is built.

SeqIO's registry is filled at import, before a job knows its paths; so nothing here is read at import.
"""

import dataclasses
import functools
from pathlib import Path

from bagpiper_jax.text import TextTokenizer, load_tokenizer


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all tasks of a job share.

    Attributes:
        data_root: holds one directory per corpus: embedded, debian, user.
        tokenizer: "byte" or the path of a tokenizer.json.
        codec: fingerprint of the codec whose codes are used; "" if no task needs codes.
        codebook_size, num_streams: of that codec.
        max_seconds: longer clips are rejected.
        system_prompt: opens generation dialogues if not empty (docs/reference.md, System prompt).
        seed: of every random choice of wording.
        report_rejects: True lets rejected clips through, marked in the feature `outcome`, for the cache writer
            to count; False filters them out, for everyone who just wants the dataset.
    """

    data_root: str
    tokenizer: str = "byte"
    codec: str = ""
    codebook_size: int = 1024
    num_streams: int = 8
    max_seconds: float = 30.0
    system_prompt: str = ""
    seed: int = 0
    report_rejects: bool = False

    @functools.cached_property
    def text_tokenizer(self) -> TextTokenizer:
        return load_tokenizer(self.tokenizer)

    def corpus_directory(self, corpus: str) -> Path:
        return Path(self.data_root) / corpus


_current: list[Settings] = []


def configure(settings: Settings) -> None:
    """Sets what the tasks use from now on."""
    _current[:] = [settings]


def current() -> Settings:
    """The settings of this job. Raises RuntimeError: nothing was configured."""
    if not _current:
        raise RuntimeError(
            "tasks are not configured; call tasks.settings.configure(Settings(data_root=…)) first"
        )
    return _current[0]
