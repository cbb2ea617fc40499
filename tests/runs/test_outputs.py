"""Runs whose output is a bucket: small files are kept here and copied there. A directory stands in for the bucket."""

import os

import pytest
from etils import epath

from bagpiper_jax import files
from bagpiper_jax.runs.outputs import Output


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """An Output of gs://b/my/run whose bucket is a directory, and that directory."""
    monkeypatch.chdir(tmp_path)
    output = Output("gs://b/my/run")
    assert os.fspath(output.path) == "gs://b/my/run" and output.local.as_posix() == "runs/buckets/b/my/run"
    output.path = epath.Path(tmp_path / "bucket" / "my" / "run")
    return output, tmp_path / "bucket" / "my" / "run"


def test_a_local_output_is_left_alone(tmp_path):
    output = Output(tmp_path / "run")
    output.fetch()
    output.push(now=True)
    assert output.local == tmp_path / "run" and not list(output.local.iterdir())


def test_changes_are_pushed_and_fetched_where_the_run_continues(bucket, tmp_path):
    output, there = bucket
    output.fetch()
    (output.local / "tensorboard").mkdir()
    (output.local / "tensorboard" / "events").write_bytes(b"\x00\x01")
    (output.local / "metrics.jsonl").write_text("1\n")
    files.temporary_path(output.local / "codec.safetensors").write_text("half")
    output.push()
    assert (there / "metrics.jsonl").read_text() == "1\n"
    assert (there / "tensorboard" / "events").read_bytes() == b"\x00\x01"
    assert sorted(p.name for p in there.iterdir()) == ["metrics.jsonl", "tensorboard"]

    (output.local / "metrics.jsonl").write_text("1\n2\n")
    (there / "tensorboard" / "events").unlink()
    output.push()
    assert (there / "metrics.jsonl").read_text() == "1\n", "once a minute"
    output.push(now=True)
    assert (there / "metrics.jsonl").read_text() == "1\n2\n"
    assert not (there / "tensorboard" / "events").exists(), "what did not change is not copied again"

    os.chdir(tmp_path / "bucket")  # another machine
    output.fetch()
    assert (output.local / "metrics.jsonl").read_text() == "1\n2\n"


def test_a_failing_bucket_is_reported_and_tried_again(bucket, caplog):
    output, there = bucket
    output.fetch()
    (output.local / "metrics.jsonl").write_text("1\n")
    there.parent.parent.mkdir()
    there.parent.write_text("no directory")
    output.push(now=True)
    assert "could not be copied to" in caplog.text and "trying again later" in caplog.text
    there.parent.unlink()
    output.push(now=True)
    assert (there / "metrics.jsonl").read_text() == "1\n"
