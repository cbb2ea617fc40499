"""Digests of a directory: whatever byte changes is named, and several processes divide the work."""

import json

import pytest

from bagpiper_jax import digests
from bagpiper_jax.digests import FILE, DigestError


@pytest.fixture
def directory(tmp_path):
    for name, size in {"a": 1, "empty": 0, "deep/er/b": 5000, "deep/c d": 3_000_000, "ü[1]": 10}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(i % 251 for i in range(size)))
    digests.write(tmp_path)
    return tmp_path


def damage(path):
    content = bytearray(path.read_bytes() or b"x")
    content[-1] ^= 1
    path.write_bytes(content)


def test_the_hash_is_xxh3(directory):
    import xxhash

    assert (
        digests.of_file(directory / "deep/c d")
        == xxhash.xxh3_128((directory / "deep/c d").read_bytes()).hexdigest()
    )
    assert digests.of_parts(iter([b"ab", b"", b"c"])) == xxhash.xxh3_128(b"abc").hexdigest()


@pytest.mark.parametrize("name", ["a", "empty", "deep/er/b", "deep/c d", "ü[1]"])
def test_each_file_is_looked_at_by_one_of_several_processes(directory, name):
    damage(directory / name)
    noticed = 0
    for index in range(3):
        try:
            assert digests.verify(directory, share=(index, 3))
        except DigestError as error:
            noticed += 1
            assert str(directory / name) in str(error)
    assert noticed == 1


def test_only_what_is_below_is_looked_at(directory):
    damage(directory / "a")
    assert digests.verify(directory, ("deep",)) and digests.verify(directory, ("dee", "empty"))
    with pytest.raises(DigestError, match="/a has changed"):
        digests.verify(directory, ("a", "deep"))


def test_files_that_came_later_are_none_of_its_business(directory):
    (directory / "new").write_text("x")
    assert digests.verify(directory)


def test_all_faults_are_told(directory):
    (directory / "a").unlink()
    (directory / "empty").write_text("x")
    with pytest.raises(DigestError, match="(?s)a is missing.*empty has 1 bytes, 0 were written"):
        digests.verify(directory)


def test_without_digests_nothing_is_known(tmp_path):
    assert digests.verify(tmp_path) is False


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, b'{"files": []}', b'{"files": {"a": 1}}',
     b'{"files": {"a": {"bytes": "1", "xxh3_128": "0"}}}', b'{"files": {"a": {"bytes": 1}}}'],
)  # fmt: skip
def test_damaged_digests_are_named(directory, content):
    (directory / FILE).write_bytes(content)
    with pytest.raises(DigestError, match=f"{FILE} is damaged"):
        digests.verify(directory)


@pytest.mark.parametrize("name", ["\0", "x" * 5000, "deep", "a/b"])
def test_a_name_that_no_file_has_is_explained(directory, name):
    entry = {"bytes": 1, "xxh3_128": "0"}
    (directory / FILE).write_text(json.dumps({"files": {name: entry}}))
    with pytest.raises(DigestError):
        digests.verify(directory)
