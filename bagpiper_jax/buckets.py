"""Files of a bucket, brought here whole and checked, where libraries can open them.

A path with a scheme, such as gs://bucket/folder or s3://bucket/folder, is in a bucket. Its files come to
`runs/buckets/bucket/folder` under the working directory; one that is there, and whole, is not brought again.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar

from bagpiper_jax import files
from bagpiper_jax.errors import Explained

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

HERE = "runs/buckets"
PAUSES = (1.0, 5.0, 15.0)
"""Seconds before a bucket that failed is asked again."""

_BLOCK = 16 << 20


class BucketError(Explained, OSError):
    """A file of a bucket that does not come; names it, why, and the remedy."""

    def __init__(
        self, path: str, reason: str, remedy: str = "see that it can be read, and run the same command again"
    ):
        super().__init__(f"{path} cannot be brought here: {reason}; {remedy}")
        self.strerror = f"{reason}; {remedy}"


def is_bucket(path: str | os.PathLike) -> bool:
    return "://" in os.fspath(path)


def local_of(path: str | os.PathLike) -> Path:
    """Where a path is on this machine: itself, or for one in a bucket the place that its file comes to."""
    text = os.fspath(path)
    return Path(HERE, *re.split(r":?/+", text)[1:]) if is_bucket(text) else Path(text)


def beside(path: str | os.PathLike, name: str) -> str:
    """`name` in the folder that a file lies in."""
    text = os.fspath(path)
    return f"{text.rpartition('/')[0]}/{name}" if is_bucket(text) else str(Path(text).parent / name)


def inside(path: str | os.PathLike, name: str) -> str:
    """`name` in a folder."""
    text = os.fspath(path)
    return f"{text.rstrip('/')}/{name}" if is_bucket(text) else str(Path(text) / name)


def exists(path: str | os.PathLike) -> bool:
    """Raises BucketError: the bucket does not answer."""
    return _asked(path, lambda: _there(path, "exists")) if is_bucket(path) else Path(path).exists()


def size(path: str | os.PathLike) -> int:
    """Bytes of a file. Raises FileNotFoundError; BucketError: the bucket does not answer."""
    if not is_bucket(path):
        return Path(path).stat().st_size
    return _asked(path, lambda: _there(path, "size"))


def read(path: str | os.PathLike) -> bytes:
    """The whole of a small file, as it is now. Raises FileNotFoundError, or BucketError."""
    return _asked(path, lambda: _there(path, "cat_file")) if is_bucket(path) else Path(path).read_bytes()


def bring(path: str | os.PathLike, bytes: int | None = None, sha256: str | None = None) -> Path:
    """A file on this machine: itself, or a copy of one in a bucket.

    Args:
        bytes, sha256: what is known of it. A copy that was brought before is taken if it agrees; what is brought is
            compared with both, so that a copy is either the file or absent.

    Raises:
        FileNotFoundError: the bucket has no such file.
        BucketError: it does not come, is cut, or is another file.
        WriteError: this machine's disk refuses it.
    """
    if not is_bucket(path):
        return Path(path)
    copy = local_of(path)
    if (bytes or sha256) and copy.is_file() and _fault(copy, bytes, sha256) is None:
        return copy
    copy.parent.mkdir(parents=True, exist_ok=True)
    return _asked(path, lambda: _copied(path, copy, bytes, sha256))


def _copied(path: str | os.PathLike, copy: Path, bytes: int | None, sha256: str | None) -> Path:
    with (
        _there(path, "open", "rb") as source,
        files.whole(copy) as temporary,
        open(temporary, "wb") as target,
    ):
        for block in _blocks(source):
            target.write(block)
        target.flush()
        if fault := _fault(temporary, bytes, sha256):
            raise _NotTheFile(fault)
    return copy


def _blocks(source: IO[bytes]) -> Iterator[bytes]:
    """What is read; a fault of the network is told from one of this machine's disk, which is an OSError too."""
    try:
        while block := source.read(_BLOCK):
            yield block
    except Exception as error:
        raise _NotTheFile(f"{type(error).__name__}: {error}") from error


def _fault(copy: Path, bytes: int | None, sha256: str | None) -> str | None:
    """What a copy differs in from what is known of its file."""
    found = copy.stat().st_size
    if bytes is not None and found != bytes:
        return f"{found} bytes came, {bytes} were expected"
    if sha256 is not None and files.sha256(copy) != sha256:
        return "its hash is not the one that was written down"
    return None


def _there(path: str | os.PathLike, method: str, *arguments):
    """What a method of the file system of a path's cloud gives."""
    import fsspec

    store, place = fsspec.core.url_to_fs(os.fspath(path))
    return getattr(store, method)(place, *arguments)


class _NotTheFile(Exception):
    """What came is not the file; the next time it may be."""


def _asked(path: str | os.PathLike, ask: Callable[[], _T]) -> _T:
    """What a bucket answers, asked again while it fails: each cloud's file system has errors of its own."""
    for pause in (*PAUSES, None):
        try:
            return ask()
        except (FileNotFoundError, files.WriteError):
            raise
        except ImportError as error:
            remedy = "install the file system of its cloud: pip install gcsfs, or s3fs"
            raise BucketError(os.fspath(path), str(error), remedy) from error
        except Exception as error:
            if pause is None:
                raise BucketError(os.fspath(path), f"{type(error).__name__}: {error}") from error
            _log.warning(
                "%s: %s: %s; asking again in %g s", os.fspath(path), type(error).__name__, error, pause
            )
            time.sleep(pause)
    raise AssertionError
