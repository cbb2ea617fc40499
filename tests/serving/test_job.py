"""The job: what is wrong with its settings is said before a model is loaded."""

import builtins
import sys

import pytest

from bagpiper_jax import configuration
from bagpiper_jax.errors import Explained
from bagpiper_jax.generation.config import WeightsConfig
from bagpiper_jax.generation.service import Engine
from bagpiper_jax.jobs import serve
from bagpiper_jax.serving import job
from bagpiper_jax.serving.config import Limits, ServeConfig


@pytest.fixture
def no_model(monkeypatch):
    monkeypatch.setattr(job, "load_generators", lambda *_: pytest.fail("a model was loaded"))


def test_the_nano_file_builds():
    made = configuration.load(ServeConfig, ["--gin_file=gin/runs/serve_nano.gin"])
    asked = configuration.load(
        serve.ServeConfig,
        ["--gin.ServeConfig.checkpoint=run", "--gin.ServeConfig.limits=@Limits()", "--gin.Limits.queue=3"],
    )
    assert made.checkpoint == "runs/nano_sft" and made.engine.context >= made.loop.cache_slots
    assert asked.limits == Limits(queue=3) and asked.host == "127.0.0.1"


@pytest.mark.parametrize("limit", ["queue=-1", "body=0.0", "audio=0.0", "stall=-1.0"])
def test_limits_that_let_nobody_in_are_refused(no_model, limit):
    with pytest.raises(Explained, match="must"):
        serve.main(
            [
                "--gin.ServeConfig.checkpoint=run",
                "--gin.ServeConfig.limits=@Limits()",
                f"--gin.Limits.{limit}",
            ]
        )


def test_a_port_that_is_taken_is_named_before_a_model_is_loaded(no_model):
    with job.bound("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Explained, match=rf"127\.0\.0\.1:{port} cannot be listened at"):
            serve.main(["--gin.ServeConfig.checkpoint=run", f"--gin.ServeConfig.port={port}"])


def test_a_key_that_no_header_carries_is_named_before_a_model_is_loaded(no_model, monkeypatch):
    monkeypatch.setenv("BAGPIPER_API_KEY", "two\nlines")
    with pytest.raises(Explained, match="BAGPIPER_API_KEY"):
        serve.main(["--gin.ServeConfig.checkpoint=run"])


def test_a_missing_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "uvicorn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "bagpiper_jax.serving.job")
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.partition(".")[0] == "uvicorn":
            raise ModuleNotFoundError(f"No module named {name!r}", name="uvicorn")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(Explained, match=r"serving needs uvicorn: pip install 'bagpiper_jax\[serve\]'"):
        serve.main(["--gin.ServeConfig.checkpoint=run"])


def test_a_run_is_served_under_its_name_with_the_key_of_the_environment(
    monkeypatch, generator, tmp_path, caplog
):
    served = []
    monkeypatch.setenv("BAGPIPER_API_KEY", " a-key\n")
    monkeypatch.setattr(job, "load_generators", lambda *asked: served.append(asked) or [generator])
    monkeypatch.setattr(job, "run", lambda *given: served.append(given))
    weights = WeightsConfig(dtype="int8")
    config = ServeConfig(str(tmp_path / "my_sft"), codec="codec", weights=weights, port=0, warm_up=False)
    job.serve(config)
    (asked, (settings, found, engine, name, listener, key, adapted)) = served
    assert asked == (config.checkpoint, (), "codec", "", weights) and adapted == []
    assert found is generator and settings is config
    assert isinstance(engine, Engine) and not engine.is_open and (name, key) == ("my_sft", "a-key")
    assert listener.fileno() == -1 and not caplog.records
    monkeypatch.delenv("BAGPIPER_API_KEY")
    job.serve(ServeConfig(config.checkpoint, host="0.0.0.0", port=0, warm_up=False))
    assert "anybody who reaches 0.0.0.0 may ask" in caplog.text
