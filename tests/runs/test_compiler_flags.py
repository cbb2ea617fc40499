"""Flags of libtpu's compiler: what is one, what the installed library knows, what a process is started with."""

import pytest

from bagpiper_jax import configuration
from bagpiper_jax.runs import compiler_flags, provenance
from bagpiper_jax.runs.chips import find_slice
from bagpiper_jax.runs.compiler_flags import FlagError, export, options, require_known
from bagpiper_jax.training.config import TrainConfig

KNOWN = "--xla_tpu_known=true"


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library that knows one flag, and in whose text another one begins with a known name."""
    path = tmp_path / "libtpu.so"
    path.write_bytes(b"\x7fELF\0xla_tpu_known\0xla_tpu_known_for_longer\0")
    monkeypatch.setenv(compiler_flags.LIBRARY, str(path))


def test_flags_are_options_of_the_compiler():
    assert options([KNOWN, "--xla_tpu_limit=12"]) == {"xla_tpu_known": True, "xla_tpu_limit": "12"}


@pytest.mark.parametrize("flag", ["xla_tpu_known=true", "--xla_tpu_known", "--xla_a=1 --xla_b=2", "--tpu=1"])
def test_what_is_no_flag_is_refused_where_it_is_bound(flag):
    with pytest.raises(FlagError, match="--xla_name=value"):
        TrainConfig("out", "lock", compiler_flags=(flag,))


def test_a_flag_given_twice_is_refused():
    with pytest.raises(FlagError, match="--xla_tpu_known is given twice"):
        options([KNOWN, "--xla_tpu_known=false"])


@pytest.mark.parametrize("name", ["tpu_unknown", "tpu_known_for", "known"])
def test_a_flag_that_the_library_does_not_know_is_named_before_it_is_loaded(library, name):
    environment = {}
    with pytest.raises(FlagError, match=f"does not know --xla_{name}; .*compiler_flags"):
        export([KNOWN, f"--xla_{name}=1"], environment)
    assert not environment


def test_a_run_puts_its_flags_before_those_that_its_user_gave(library):
    environment = {compiler_flags.VARIABLE: "--xla_tpu_known=false"}
    export([KNOWN], environment)
    assert environment[compiler_flags.VARIABLE] == "--xla_tpu_known=true --xla_tpu_known=false"
    export([], environment)
    assert environment[compiler_flags.VARIABLE] == "--xla_tpu_known=true --xla_tpu_known=false"


def test_what_a_run_was_compiled_with_is_in_its_provenance(monkeypatch):
    monkeypatch.setenv(compiler_flags.VARIABLE, KNOWN)
    found = provenance.environment()
    assert found["libtpu_flags"] == KNOWN and found["packages"]["libtpu"] == compiler_flags.version()


def test_the_installed_libtpu_knows_the_flags_of_every_slice():
    pytest.importorskip("libtpu")
    found = set()
    for name in ("v5e_256", "v5p_128", "v5p_512", "v6e_256", "v6e_256_x2"):
        files = ["gin/models/8b.gin", "gin/stages/pretrain.gin", f"gin/slices/{name}.gin"]
        flags = configuration.build(TrainConfig, files, ["TrainConfig.output='x'"]).compiler_flags
        assert flags, name
        found.update(flags)
    require_known(sorted(found))


@pytest.mark.parametrize(
    "name, closed",
    [
        ("v5p-128", (True,) * 3),
        ("v5p:4x8x8", (True,) * 3),
        ("v4-128", (True,) * 3),
        ("v5p:2x2x1", ()),
        ("v5p:4x4x2", ()),
        ("v6e-256", ()),
        ("h200", ()),
    ],
)
def test_slices_of_whole_cubes_are_closed_to_rings(name, closed):
    assert find_slice(name).torus == closed
