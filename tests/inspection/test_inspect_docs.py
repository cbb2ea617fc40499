"""The commands that docs/inspect.md shows are ones that the job takes, and its table names the limits as they are."""

import dataclasses
import re
import shlex

import pytest
from places import REPOSITORY

from bagpiper_jax import configuration
from bagpiper_jax.data.limits import MixtureLimits
from bagpiper_jax.jobs import inspect_data

PAGE = (REPOSITORY / "docs/inspect.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    bagpiper inspect_data (.+)$", PAGE, re.M)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command):
    flags = inspect_data.expand(shlex.split(command.partition(" > ")[0]))
    config = configuration.load(inspect_data.InspectConfig, flags)
    assert config.served().lock.endswith(".lock.json")


def test_the_limits_are_those_of_the_table():
    assert len(COMMANDS) > 8
    table = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", PAGE, re.M))
    assert table == {
        field.name: str(field.default).removesuffix(".0") for field in dataclasses.fields(MixtureLimits)
    }


def test_help_keeps_the_lines_of_the_job(capsys):
    with pytest.raises(SystemExit) as ended:
        inspect_data.main(["--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and max(map(len, said.splitlines())) <= 120
    for flag in (
        "--validate",
        "--step=1200 --row=3",
        "--id=CLIP",
        "--compare=OTHER.lock.json",
        "--html=PAGE.html",
    ):
        assert f"\n    {flag}  " in said
