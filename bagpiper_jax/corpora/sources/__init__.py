"""What a user has, read as what it is: JSONL, tables, folders, data sets of Hugging Face, manifests of NeMo, Lhotse and
Kaldi. Each gives records in the fields of `user_records`."""

from bagpiper_jax.corpora.sources.given import Given
from bagpiper_jax.corpora.sources.opening import Source, open_source

__all__ = ["Given", "Source", "open_source"]
