"""A checkpoint that was damaged is not exported: what changed is named, and nothing is written."""

import json
import shutil

import pytest
from interop_helpers import exporting, importing, native_tensors, save_native

from bagpiper_jax import digests
from bagpiper_jax.errors import Explained
from bagpiper_jax.training.checkpoint_checks import CheckpointError


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    source = save_native(directory / "base.safetensors", native_tensors())
    return importing(directory / "ours", espnet=source)


@pytest.fixture
def ours(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "ours")


def largest(ours):
    return max((ours / "parameters").rglob("d/*"), key=lambda path: path.stat().st_size)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_an_import_has_digests_of_all_that_it_wrote(whole):
    entries = json.loads((whole / digests.FILE).read_text())["files"]
    written = {p.relative_to(whole).as_posix() for p in whole.rglob("*") if p.is_file()} - {digests.FILE}
    assert set(entries) == written and digests.verify(whole)


@pytest.mark.parametrize("format", ["espnet", "vllm", "tower"])
def test_a_flipped_bit_of_the_parameters_is_named_and_nothing_is_exported(ours, tmp_path, format):
    flip(largest(ours))
    with pytest.raises(CheckpointError, match=f"{largest(ours).name} has changed since it was written"):
        exporting(ours, tmp_path / "out.safetensors", format)
    assert [p.name for p in tmp_path.iterdir()] == ["ours"]


@pytest.mark.parametrize("with_digests", [True, False])
def test_a_truncated_checkpoint_is_explained(ours, tmp_path, with_digests):
    for path in (ours / "parameters").rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    if not with_digests:
        (ours / digests.FILE).unlink()
    with pytest.raises(Explained, match="parameters"):
        exporting(ours, tmp_path / "out.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["ours"]


def test_a_codec_that_changed_is_named(ours, tmp_path):
    flip(ours / "codec.safetensors")
    with pytest.raises(Explained, match="ours/codec.safetensors has changed"):
        exporting(ours, tmp_path / "out.safetensors")


def test_a_path_that_orbax_takes_for_a_pattern_is_refused_before_anything_is_written(tmp_path):
    source = save_native(tmp_path / "base.safetensors", native_tensors())
    with pytest.raises(CheckpointError, match="takes for a pattern"):
        importing(tmp_path / "ours[1]", espnet=source)
    assert [p.name for p in tmp_path.iterdir()] == ["base.safetensors"]
