"""`--help` tells every setting: what Python itself knows of the dataclasses is the oracle of what was read as text."""

import dataclasses
import importlib
import os
import subprocess
import sys
import typing

import pytest
from places import REPOSITORY

from bagpiper_jax import configuration, manual, typed
from bagpiper_jax.configuration import ConfigurationError
from bagpiper_jax.jobs import JOBS
from bagpiper_jax.training.config import TrainConfig

HEAVY = ("jax", "tensorflow", "seqio", "flax", "numpy", "gin", "grain", "orbax")


def classes_of(root: type) -> dict[str, type]:
    """The dataclasses that can be bound, as Python's own annotations lead to them."""
    found, waiting = {}, [root]
    while waiting:
        cls = waiting.pop()
        if cls.__name__ not in found:
            found[cls.__name__] = cls
            hints = typing.get_type_hints(cls)
            waiting += [t for a in hints.values() for t in typed.leaves(a) if dataclasses.is_dataclass(t)]
    return found


@pytest.mark.parametrize("name", JOBS)
def test_every_setting_of_every_job_stands_there_with_its_default_and_its_meaning(name, monkeypatch):
    loaded = []
    monkeypatch.setattr(configuration, "load", lambda root, *_, **__: loaded.append(root) or sys.exit())
    job = importlib.import_module(f"bagpiper_jax.jobs.{name}")
    with pytest.raises(SystemExit):
        job.main(["--audio=a"] if name == "generate" else [])
    classes, told = classes_of(loaded[0]), {group.name: group for group in manual.job(name).groups}
    assert told.keys() == classes.keys() and next(iter(told)) == loaded[0].__name__
    for group in told.values():
        assert group.summary
        fields = {f.name: f for f in dataclasses.fields(classes[group.name]) if f.init}
        assert [setting.name for setting in group.settings] == list(fields)
        for setting in group.settings:
            assert setting.meaning, f"{group.name}.{setting.name} is explained nowhere"
            field = fields[setting.name]
            required = field.default is field.default_factory is dataclasses.MISSING
            assert (setting.default is None) == required
            if not required and not setting.nested and field.default is not dataclasses.MISSING:
                assert (
                    eval(setting.default, vars(sys.modules[classes[group.name].__module__])) == field.default
                )
            hints = typed.leaves(typing.get_type_hints(classes[group.name])[setting.name])
            assert {t.__name__ for t in hints if dataclasses.is_dataclass(t)} == set(setting.nested)


@pytest.mark.parametrize("name", ["train", "cache_tasks", "plan"])
def test_help_comes_at_once_and_loads_nothing(name):
    code = (
        "import sys; from bagpiper_jax import __main__ as m\n"
        "try: m.main()\n"
        f"finally: print([n for n in {HEAVY!r} if n in sys.modules], file=sys.stderr)"
    )
    began = os.times()
    ended = subprocess.run(
        [sys.executable, "-c", code, name, "--help"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert ended.returncode == 0 and ended.stderr == "[]\n"
    took = [now - then for now, then in zip(os.times(), began, strict=True)]
    assert took[2] + took[3] < 2  # seconds of the child's CPU, which other programs do not stretch
    assert max(map(len, ended.stdout.splitlines())) <= 120


def test_help_tells_meaning_type_default_and_what_is_nested():
    said = manual.help_of("train")
    assert "\n  mesh: MeshConfig = MeshConfig()\n" in said and "\nMeshConfig: " in said
    assert "\n  fsdp: int = -1\n      shards of rows, parameters and optimizer.\n" in said
    assert "\n  output: str\n" in said  # without a default
    assert "(default: generated.wav, or generated)" in " ".join(manual.help_of("generate").split())


def test_the_page_of_the_documentation_has_each_class_once_and_its_links_lead_somewhere():
    page = manual.reference(JOBS)
    heads = [line.removeprefix("### ") for line in page.splitlines() if line.startswith("### ")]
    assert len(set(heads)) == len(heads) and {f"bagpiper {name}" for name in JOBS} <= set(heads)
    for head in heads:
        assert f"(#{head.lower()})" in page or head.startswith("bagpiper ")
    assert "- `fsdp: int = -1`: shards of rows, parameters and optimizer." in page


@pytest.mark.parametrize(
    "flags, meant",
    [
        (["--steps=100"], "--gin.TrainConfig.steps=100?"),
        (["--steps", "100"], "--gin.TrainConfig.steps=100?"),
        (["steps=100"], "--gin.TrainConfig.steps=100?"),
        (["--gin.steps"], "--gin.TrainConfig.steps=…?"),
        (["--TrainConfig.steps=7"], "--gin.TrainConfig.steps=7?"),
        (["--learning-rate=1"], "a binding is --gin.Name.field=value"),
        (["--peak-rate=1e-4"], "--gin.OptimizerConfig.peak_rate=1e-4?"),
        (["--stpes=3"], "--gin.TrainConfig.steps=3?"),
        (["--slots=3", "--output=o"], "--gin.BatchShape.slots=3 or --gin.TrainConfig.output=o?"),
    ],
)
def test_a_flag_that_is_none_suggests_the_binding(flags, meant):
    with pytest.raises(ConfigurationError, match="unknown flags: ") as fault:
        configuration.load(TrainConfig, flags)
    assert str(fault.value).endswith(meant)
