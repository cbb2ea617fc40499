"""Audio that changes under an unchanged manifest is noticed by every job that was made of it."""

import os
import shutil

import pytest

from bagpiper_jax import files
from bagpiper_jax.data import audio_digest
from bagpiper_jax.data.audio_digest import HASHES
from bagpiper_jax.manifest import Clip


@pytest.fixture
def corpus(tmp_path):
    directory = tmp_path / "corpus"
    directory.mkdir()
    for name in ("a.wav", "b.wav", "named.wav"):
        (directory / name).write_bytes(name.encode() * 9)
    return directory


CLIPS = [
    Clip("a", "train", "sound", "a.wav"),
    Clip("b", "train", "sound", "b.wav", dialogue=[["user", "audio", "a"], ["assistant", "text", "hm"]]),
    Clip("c", "train", "sound", dialogue=[["user", "audio", "named.wav"], ["assistant", "text", "hm"]]),
    Clip("lost", "train", "sound", "lost.wav"),
    Clip("page", "train", "text", text="no audio"),
]


def digest(corpus):
    return audio_digest.audio_digest(corpus, CLIPS)


@pytest.mark.parametrize("name", ["a.wav", "named.wav", "lost.wav"])
def test_changed_and_returned_audio_changes_the_digest(corpus, name):
    before = digest(corpus)
    old = (corpus / name).read_bytes() if (corpus / name).exists() else None
    (corpus / name).write_bytes(b"another")
    assert digest(corpus) != before
    if old is None:
        (corpus / name).unlink()
    else:
        (corpus / name).write_bytes(old)
    assert digest(corpus) == before


def test_a_copy_has_the_same_digest_whatever_its_dates(corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "copy", copy_function=shutil.copyfile)
    os.utime(tmp_path / "copy" / "a.wav", (1, 1))
    assert digest(tmp_path / "copy") == digest(corpus)


def test_only_new_content_is_read_again(corpus, monkeypatch):
    read, hashed = [], files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: read.append(path.name) or hashed(path))
    first = digest(corpus)
    assert sorted(read) == ["a.wav", "b.wav", "named.wav"]
    assert digest(corpus) == first and len(read) == 3
    (corpus / "b.wav").write_bytes(b"longer than before" * 9)
    digest(corpus)
    assert read[3:] == ["b.wav"]
    (corpus / HASHES).write_text("torn {")
    digest(corpus)
    assert len(read) == 7
