"""Joining a cache's shards: rejects, index, manifest, and COMPLETE last. Needs neither SeqIO nor much memory."""

import collections
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bagpiper_jax import files, outcomes
from bagpiper_jax.caching import provenance
from bagpiper_jax.caching.shards import ExportError, missing, part_path, variants_path
from bagpiper_jax.data import cache


def finish(directory: Path, described: dict, shards: int, max_reject_frac: float) -> dict:
    """Joins the parts of all shards and returns the manifest.

    Args:
        described: a description of what the records were made from, see `caching.export`.
        max_reject_frac: largest share of the inputs that may be rejected.

    Raises:
        ExportError: a shard is missing, or too many inputs were rejected.
    """
    if unwritten := missing(directory, shards):
        raise ExportError(
            f"{len(unwritten)} of {shards} shards of {directory} are not written, the first is {unwritten[0]}; "
            "run cache_tasks for the missing parts"
        )
    parts = [_Part(directory, shard) for shard in range(shards)]
    counts = sum((collections.Counter(part.counts) for part in parts), collections.Counter())
    with open(directory / cache.REJECTS, "w", encoding="utf-8") as file:
        for part in parts:
            file.writelines(json.dumps(reject, ensure_ascii=False) + "\n" for reject in part.rejects())
    inputs = sum(part.inputs for part in parts)
    _refuse_many_rejects(directory, counts, inputs, max_reject_frac)
    index = _write_index(directory, parts) | _write_variants(directory, parts)
    manifest = {
        "format": cache.FORMAT,
        "inputs": inputs,
        "records": sum(part.records for part in parts),
        "counts": dict(sorted({"ok": 0, **counts}.items())),
        "families": [f for f in cache.FAMILIES if any(f in part.files for part in parts)],
        "shards": [{"records": part.records, "files": part.files} for part in parts],
        "index": index,
        "provenance": {**described, "versions": provenance.library_versions()},
    }
    (directory / cache.MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    (directory / cache.COMPLETE).touch()
    remove_leftovers(directory)
    return manifest


class _Part:
    """What a shard's writer left beside it; rejects and lengths are read when they are wanted."""

    def __init__(self, directory: Path, shard: int):
        self._json, self._table = part_path(directory, shard), directory / f"part-{shard:05d}.npy"
        self._variants = variants_path(directory, shard)
        with self._explained():
            part = self._read()
            self.inputs, self.records, self.counts = part["inputs"], part["records"], part["counts"]
            self.largest, self.sums, self.files = part["max"], part["sum"], part["files"]
            self.most_variants, self.sum_of_means = part["variants"], part["sum_of_means"]
            if not len(self.lengths()) == len(self._load(self._table)) == self.records:
                raise ValueError(f"not the lengths of {self.records} records")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """A power cut may leave a part half written, or a hand may have changed it."""
        try:
            yield
        except Exception as error:  # of damaged bytes json and numpy raise errors of every sort
            raise ExportError(
                f"{self._json} is damaged, or the .npy beside it ({type(error).__name__}: {error}); delete it and run "
                "cache_tasks again: its shard alone is made anew"
            ) from error

    def _read(self) -> dict:
        return json.loads(self._json.read_text(encoding="utf-8"))

    def _load(self, path: Path) -> np.ndarray:
        return np.load(path, mmap_mode="r", allow_pickle=False)

    def rejects(self) -> list[dict]:
        return self._read()["rejects"]

    def column(self, number: int) -> np.ndarray:
        return self._load(self._table)[:, number]

    def lengths(self) -> np.ndarray:
        """(length, chunks) of all variants [records, V, 2]."""
        return self._load(self._variants) if self.most_variants > 1 else self._load(self._table)[:, None, :2]


def _write_index(directory: Path, parts: list[_Part]) -> dict[str, dict]:
    """Writes each column part by part; returns its largest value, sum and checksum."""
    described, records = {}, sum(part.records for part in parts)
    for number, name in enumerate(cache.INDEX_COLUMNS):
        path, largest = cache.index_path(directory, name), max(part.largest[number] for part in parts)
        kind = np.uint64 if name == "hash" else np.min_scalar_type(largest)
        if records:
            column, begin = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=(records,)), 0
            for part in parts:
                column[begin : begin + part.records] = part.column(number) if part.records else ()
                begin += part.records
            column.flush()
        else:
            np.save(path, np.zeros(0, kind))
        described[name] = {"sha256": files.sha256(path)}
        if name != "hash":
            described[name] |= {"max": largest, "sum": sum(part.sums[number] for part in parts)}
    return described


def _write_variants(directory: Path, parts: list[_Part]) -> dict[str, dict]:
    """Lengths and chunks of all variants, two columns [records, V]; none where no record has a second variant."""
    most = max(part.most_variants for part in parts)
    if most == 1:
        return {}
    described, records = {}, sum(part.records for part in parts)
    for number, name in enumerate(cache.VARIANT_COLUMNS):
        path, begin = cache.index_path(directory, name), 0
        column = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint32, shape=(records, most))
        for part in parts:
            lengths = part.lengths()[..., number]
            column[begin : begin + part.records, : lengths.shape[1]] = lengths
            begin += part.records
        column.flush()
        described[name] = {"sha256": files.sha256(path), "max": int(column.max())}
    means = sum(part.sum_of_means for part in parts)
    return described | {"variant_length": described["variant_length"] | {"sum_of_means": means}}


def _refuse_many_rejects(directory: Path, counts: collections.Counter, inputs: int, limit: float) -> None:
    rejected = outcomes.rejected(counts)
    share = sum(rejected.values()) / max(1, inputs)
    if share > limit:
        raise ExportError(
            f"{sum(rejected.values())} of {inputs} clips rejected ({share:.1%}, the limit is {limit:.1%}): "
            f"{rejected}; see {directory / cache.REJECTS}, repair the corpus or raise max_reject_frac"
        )


def remove_leftovers(directory: Path) -> None:
    """Parts, and files of killed attempts."""
    for path in (*directory.glob("part-*"), *directory.glob("*.tmp-*")):
        path.unlink(missing_ok=True)
