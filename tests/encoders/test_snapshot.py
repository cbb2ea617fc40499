"""Snapshots of encoder training: whole or refused, whatever byte of the file changes."""

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bagpiper_jax.encoders import snapshot

STATE = {
    "step": jnp.int32(3),
    "weights": {
        "a": jnp.arange(12.0).reshape(3, 4),
        "b": jnp.array([True, False]),
        "c": jnp.ones(2, jnp.bfloat16),
    },
}
IDENTITY = {"seed": 1, "width": [4, 8]}


def assert_same(found, expected=STATE):
    assert found["step"] == expected["step"]
    for name, value in expected["weights"].items():
        np.testing.assert_array_equal(found["weights"][name], value)


def test_a_flipped_bit_anywhere_in_the_file_is_noticed(tmp_path):
    path = snapshot.save(tmp_path, STATE, IDENTITY)
    whole = path.read_bytes()
    assert_same(snapshot.restore(tmp_path, STATE, IDENTITY))
    for position in range(0, len(whole), 7):
        path.write_bytes(
            whole[:position] + bytes([whole[position] ^ 1 << position % 8]) + whole[position + 1 :]
        )
        try:
            found = snapshot.restore(tmp_path, STATE, IDENTITY)
        except snapshot.SnapshotError as error:
            assert str(path) in str(error)
        else:  # a space of the header's padding
            assert_same(found)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0[]"]
)
def test_a_file_that_is_no_snapshot_is_named(tmp_path, content):
    (tmp_path / snapshot.FILE).write_bytes(content)
    with pytest.raises(
        snapshot.SnapshotError, match="checkpoint.safetensors is damaged.*delete it to start again"
    ):
        snapshot.restore(tmp_path, STATE, IDENTITY)


def test_a_snapshot_without_digest_is_read_with_a_warning(tmp_path, caplog):
    path = snapshot.save(tmp_path, STATE, IDENTITY)
    save_file(load_file(path), path, {"run": snapshot._text(IDENTITY)})
    assert_same(snapshot.restore(tmp_path, STATE, IDENTITY))
    assert "has no digest" in caplog.text


def test_another_runs_snapshot_is_refused_with_the_difference(tmp_path):
    snapshot.save(tmp_path, STATE, IDENTITY)
    with pytest.raises(snapshot.SnapshotError, match="other settings .seed: 1 there, 2 here"):
        snapshot.restore(tmp_path, STATE, IDENTITY | {"seed": 2})


def test_a_save_that_fails_leaves_the_old_snapshot_alone(tmp_path, monkeypatch):
    snapshot.save(tmp_path, STATE, IDENTITY)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(snapshot.SnapshotError, match="No space left.*run the same command again"):
        snapshot.save(tmp_path, STATE, IDENTITY)
    assert [p.name for p in tmp_path.iterdir()] == [snapshot.FILE]
    assert_same(snapshot.restore(tmp_path, STATE, IDENTITY))
