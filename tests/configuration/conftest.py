"""Gin files that the tests of this folder write."""

import pytest


@pytest.fixture
def gin_file(tmp_path):
    def write(text: str | bytes, name: str = "probe.gin") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write
