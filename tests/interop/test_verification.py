"""Contents of checkpoints are compared with whatever tells them, and what nothing tells is said; NaN is refused."""

import hashlib

import numpy as np
import pytest
from interop_helpers import BFLOAT16, halved, importing, native_tensors, save_native

from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.interop.formats import verification


def test_a_damaged_value_is_noticed_where_anything_tells_it(tmp_path, caplog):
    caplog.set_level("INFO")
    source = save_native(tmp_path / "base.safetensors", native_tensors())
    importing(tmp_path / "unknown", espnet=source)
    assert "base.safetensors: its contents could not be verified, since it has no checksums" in caplog.text

    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  other\n{digest} *base.safetensors\n")
    caplog.clear()
    importing(tmp_path / "known", espnet=source)
    assert "its contents are those that SHA256SUMS tells" in caplog.text
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 1
    source.write_bytes(data)
    with pytest.raises(InterchangeError, match=f"SHA256SUMS tells {digest}"):
        importing(tmp_path / "changed", espnet=source)
    (tmp_path / "base.safetensors.sha256").write_text("no digest")
    with pytest.raises(InterchangeError, match="base.safetensors.sha256 does not begin with a SHA-256"):
        importing(tmp_path / "changed", espnet=source)
    assert not list(tmp_path.glob("changed*"))


def test_files_of_the_hubs_cache_are_verified(tmp_path, caplog):
    """There a file is a link to a blob that is called by its SHA-256."""

    data = save_native(tmp_path / "x.safetensors", {"a": np.ones(3, np.float32)}).read_bytes()
    blob = tmp_path / hashlib.sha256(data).hexdigest()
    blob.write_bytes(data)
    (tmp_path / "model.safetensors").symlink_to(blob)
    caplog.set_level("INFO")
    verification.verify([tmp_path / "model.safetensors"])
    assert "that the hub's cache tells" in caplog.text
    blob.write_bytes(data[:-1] + b"\x01")
    with pytest.raises(InterchangeError, match="the hub's cache tells"):
        verification.verify([tmp_path / "model.safetensors"])


def test_torch_files_without_checksums(tmp_path, caplog):
    torch = pytest.importorskip("torch")
    caplog.set_level("INFO")
    pt = tmp_path / "with.pt"
    torch.save({"a": torch.ones(3)}, pt)
    verification.verify([pt])
    assert "its own checksums" in caplog.text
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(3)}, tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    verification.verify([tmp_path / "x.pt"])
    assert "x.pt: its contents could not be verified" in caplog.text


@pytest.mark.parametrize("dtype", [np.float32, BFLOAT16, np.float16])
def test_values_that_are_no_numbers_are_found(dtype):
    sound = np.array([[-65504, 65504], [6e-8, 0]], dtype)
    assert verification.require_finite("x", sound) is sound
    for value in (np.nan, -np.nan, np.inf, -np.inf):
        broken = sound.copy()
        broken[1, 0] = value
        with pytest.raises(InterchangeError, match="x holds values that are infinite or no numbers"):
            verification.require_finite("x", broken)


def test_an_import_ends_at_values_that_are_no_numbers(tmp_path):
    native = halved(native_tensors())
    native["model.layers.1.mlp.up_proj.weight"][3, 2] = np.nan
    source = save_native(tmp_path / "base.safetensors", native)
    with pytest.raises(InterchangeError, match="layers.1.mlp.up_proj.weight holds values that are infinite"):
        importing(tmp_path / "ours", espnet=source)
    assert not (tmp_path / "ours").exists()
