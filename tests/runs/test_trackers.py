"""Trackers: in order, tried again, never waited for; MLflow's server and W&B's files have what metrics.jsonl has."""

import json
import socket
import struct
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
from training_helpers import CONFIG, SyntheticLoader, with_

from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.runs.trackers import relay as relays
from bagpiper_jax.runs.trackers.group import Trackers
from bagpiper_jax.runs.trackers.mlflow import MlflowTracker
from bagpiper_jax.runs.trackers.protocol import TrackedRun, TrackerError
from bagpiper_jax.runs.trackers.relay import Relay
from bagpiper_jax.runs.trackers.weights_and_biases import WandbTracker
from bagpiper_jax.training.loop import train

CONFIG8 = with_(CONFIG, mesh=MeshConfig(fsdp=8), log_every=1)


class Service:
    """Remembers what it was told; fails `faults` times, and waits for `answers` to be set."""

    def __init__(self, faults: int = 0):
        self.told, self.faults, self.answers = [], faults, threading.Event()
        self.answers.set()

    def scalars(self, step, values):
        self.answers.wait()
        if self.faults:
            self.faults -= 1
            raise ConnectionError("nobody is there")
        self.told.append((step, dict(values)))

    def text(self, step, name, text):
        self.told.append((step, name, text))

    def close(self, done):
        self.told.append(done)


def test_calls_arrive_in_order_however_often_they_fail(caplog):
    service = Service(faults=3)
    relay = Relay("service", service, pause=0.001)
    relay.scalars(1, {"loss": 2.0})
    relay.text(1, "gin", "a = 1")
    relay.scalars(2, {"loss": 1.0})
    relay.close(True)
    assert service.told == [(1, {"loss": 2.0}), (1, "gin", "a = 1"), (2, {"loss": 1.0}), True]
    assert caplog.text.count("does not answer") == caplog.text.count("answers again") == 1


def test_nobody_waits_for_a_service_and_what_it_misses_is_counted(caplog, monkeypatch):
    monkeypatch.setattr(relays, "MOST_WAITING", 5)
    service = Service()
    service.answers.clear()
    relay = Relay("service", service)
    for step in range(20):  # would never end if it waited
        relay.scalars(step, {"loss": 1.0})
    relay.close(False, patience=0.0)
    assert "service did not get 20 of this run's calls" in caplog.text or "did not get 21" in caplog.text
    service.answers.set()


def test_a_service_that_stays_away_does_not_keep_a_run_from_ending(caplog):
    relay = Relay("service", Service(faults=10**9), pause=0.001)
    relay.scalars(1, {"loss": 1.0})
    relay.close(True, patience=0.05)
    assert "did not get 2 of this run's calls; metrics.jsonl has all points" in caplog.text


@pytest.mark.parametrize(
    "tracker, module", [(MlflowTracker("http://x"), "mlflow.tracking"), (WandbTracker(), "wandb")]
)
def test_a_missing_client_is_named(tmp_path, monkeypatch, tracker, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(TrackerError, match="pip install"):
        Trackers([tracker], TrackedRun("run", tmp_path))


def test_no_password_in_a_setting():
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_PASSWORD"):
        MlflowTracker("https://me:secret@example.org")


def _lines(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of MLflow's own server."""
    directory = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    command += [
        f"--backend-store-uri=sqlite:///{directory}/runs.db",
        f"--artifacts-destination={directory}/files",
    ]
    with open(directory / "log", "wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, directory / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait_for(address: str, process: subprocess.Popen, log) -> None:
    ended = threading.Event()
    while process.poll() is None:
        try:
            return urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            ended.wait(0.2)
    pytest.fail(f"the server ended: {log.read_text()[-2000:]}")


@pytest.mark.slow
def test_mlflow_has_every_point_of_a_run_that_was_interrupted(tmp_path, server):
    from mlflow.tracking import MlflowClient

    output = tmp_path / "my_run"
    config = with_(CONFIG8, output=str(output), steps=4, trackers=(MlflowTracker(server, "trial"),))
    train(config, SyntheticLoader(), operative_config="TrainConfig.steps = 4")
    train(with_(config, steps=6), SyntheticLoader())
    client = MlflowClient(server)
    (run,) = client.search_runs([client.get_experiment_by_name("trial").experiment_id])
    assert run.info.run_name == "my_run" and run.info.status == "FINISHED"
    history = {point.step: point.value for point in client.get_metric_history(run.info.run_id, "train/loss")}
    assert history == {line["step"]: line["loss"] for line in _lines(output) if line["kind"] == "train"}
    assert set(history) == set(range(1, 7))
    local = client.download_artifacts(run.info.run_id, "gin_0.txt", str(tmp_path))
    assert Path(local).read_text() == "TrainConfig.steps = 4"


@pytest.mark.slow
def test_wandb_writes_every_point_for_a_later_sync(tmp_path, monkeypatch):
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setattr(relays, "PATIENCE", 300.0)  # its client may take long to start
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = with_(
        CONFIG8,
        mesh=MeshConfig(fsdp=8),
        output=str(tmp_path),
        steps=3,
        log_every=1,
        trackers=(WandbTracker(),),
    )
    train(config, SyntheticLoader())
    (written,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    found = {}
    for data in _records(written.read_bytes()):
        record = Record.FromString(data)
        point = {
            "/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item
        }
        if "train/loss" in point:
            found[point["step"]] = point["train/loss"]
    assert found == {line["step"]: line["loss"] for line in _lines(tmp_path) if line["kind"] == "train"}
    assert set(found) == {1, 2, 3}


def _records(log: bytes):
    """The records of a W&B file: behind seven bytes a log as LevelDB documents it, in blocks of 32 KiB."""
    place, record = 7, b""
    while place + 7 <= len(log):
        if 32_768 - place % 32_768 < 7:
            place += 32_768 - place % 32_768  # a block's end that has no room for a header
            continue
        _, length, kind = struct.unpack_from("<IHB", log, place)
        record += log[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""
