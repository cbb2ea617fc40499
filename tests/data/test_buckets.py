"""A mixture in a bucket is served as from a disk: files whole and checked, faults asked about again and named."""

import hashlib
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from synthetic_cache import write_mixture

from bagpiper_jax import buckets
from bagpiper_jax.data.cache import CacheError, TaskCache
from bagpiper_jax.data.mixture import Mixture


@pytest.fixture(scope="module")
def server():
    """A real S3 server, spoken to over HTTP."""
    pytest.importorskip("s3fs")
    from moto.server import ThreadedMotoServer

    served = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield
    served.stop()


@pytest.fixture
def bucket(server, tmp_path, monkeypatch):
    """A mixture on a disk, and the URL of its copy in a bucket; the working directory is empty, and pauses are none."""
    import s3fs

    made = write_mixture(tmp_path / "disk", {"audio_to_caption": (12, 1.0), "text_only": (8, 1.0)})
    name = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]
    store = s3fs.S3FileSystem()
    store.mkdir(name)
    store.put(str(made.parent), f"{name}/cache", recursive=True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(buckets, "PAUSES", (0.0, 0.0, 0.0))
    yield made, f"s3://{name}/cache/{made.name}", store
    store.invalidate_cache()


def test_a_mixture_in_a_bucket_is_served_as_from_a_disk(bucket):
    made, url, _ = bucket
    here, away = Mixture.open(made, "train"), Mixture.open(url, "train")
    assert here.identity() == away.identity()
    brought = {path.name for path in Path("runs/buckets").rglob("*") if path.is_file()}
    assert brought and not any("array_record" in name for name in brought), "shards come when they are wanted"
    for mine, theirs in zip(here.caches, away.caches, strict=True):
        for column, values in mine.index.items():
            np.testing.assert_array_equal(values, theirs.index[column])
        assert content(mine) == content(theirs)
        theirs.check_files(contents=True)


def test_what_was_brought_is_not_brought_again_unless_it_changed(bucket, monkeypatch):
    _, url, _ = bucket
    first = Mixture.open(url, "train").caches[0]
    records = content(first)
    copies = []
    copied = buckets._copied
    monkeypatch.setattr(
        buckets, "_copied", lambda path, *rest: (copies.append(str(path)), copied(path, *rest))[1]
    )
    again = Mixture.open(url, "train").caches[0]
    assert content(again) == records and not copies
    shard = next(Path("runs/buckets").rglob("core.array_record-00000*"))
    torn = bytearray(shard.read_bytes())
    torn[len(torn) // 2] ^= 1
    shard.write_bytes(torn)
    third = Mixture.open(url, "train").caches[0]
    assert content(third) == records
    assert [Path(path).name for path in copies] == [shard.name]


class _Breaks(io.RawIOBase):
    """Gives some bytes, then fails."""

    def __init__(self, content: bytes, fault: Exception):
        self._content, self._fault = content, fault

    def readable(self):
        return True

    def readinto(self, buffer):
        if not self._content:
            raise self._fault
        buffer[: len(self._content)], count, self._content = self._content, len(self._content), b""
        return count


def content(cache: TaskCache) -> list[tuple]:
    """Every record, comparable."""
    found = [cache.read(i) for i in range(len(cache))]
    return [(record.id, record.text.tobytes(), record.codes.tobytes(), record.audio) for record in found]


def test_faults_are_asked_about_again_and_what_stays_is_named(bucket, monkeypatch, caplog):
    _, url, _ = bucket
    faults, read = iter([ConnectionError("reset"), TimeoutError("slow")]), buckets._blocks

    def failing(source):
        if fault := next(faults, None):
            source = io.BufferedReader(_Breaks(source.read(100), fault))  # cut in the middle
        return read(source)

    monkeypatch.setattr(buckets, "_blocks", failing)
    cache = Mixture.open(url, "train").caches[0]
    assert cache.read(0) and caplog.text.count("asking again") == 2
    shutil.rmtree("runs")
    faults = iter([ConnectionError("reset")] * 100)
    with pytest.raises((CacheError, buckets.BucketError), match="ConnectionError: reset"):
        Mixture.open(url, "train")
    assert not [path for path in Path("runs").rglob("*") if path.is_file()], "whole or absent"


def test_a_shard_that_is_another_is_not_taken(bucket):
    _, url, store = bucket
    cache = Mixture.open(url, "train").caches[0]
    folder = str(cache.where)
    shard = next(path for path in store.find(folder) if "core.array_record-00001" in path)
    damaged = bytearray(store.cat_file(shard))
    damaged[10] ^= 1
    store.pipe_file(shard, bytes(damaged))
    with pytest.raises(buckets.BucketError, match="its hash is not the one"):
        content(cache)


def test_what_is_not_there_is_named(bucket, server):
    _, url, store = bucket
    folder = url.rsplit("/", 1)[0]
    with pytest.raises(CacheError, match="does not exist; run cache_tasks"):
        Mixture.open(f"{folder}/other.lock.json", "train")
    with pytest.raises(CacheError, match="no finished cache"):
        TaskCache(f"{folder}/nothing")
    for path in store.find(folder):
        if "core.array_record-00001" in path:
            store.rm_file(path)
    with pytest.raises(CacheError, match="core.array_record-00001-of-.* is missing"):
        Mixture.open(url, "train")


def test_a_cloud_without_its_file_system_is_named(monkeypatch):
    def absent(*_):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr("fsspec.core.url_to_fs", absent)
    with pytest.raises(buckets.BucketError, match="pip install gcsfs, or s3fs"):
        buckets.read("gs://bucket/x")
