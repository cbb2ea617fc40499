"""What gin files may look like: includes as gin's own parser reads them, and texts that no parser likes."""

import dataclasses
import os
import threading

import pytest
from test_gin_checks import Probe, build, refused

NESTED = "[" * 5000 + "]" * 5000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"Probe.anything = {NESTED}\n", "brackets are nested too deeply to be read"),
        (f"Probe.anything = {NESTED[4900:5100]}\n", ":1: Probe.anything has more than 50 brackets within"),
        ("Probe.anything = " + "{1: " * 200 + "2" + "}" * 200 + "\n", "more than 50 brackets within"),
        ("Probe.anything = " + "(" * 5000 + "\n", "brackets are nested too deeply to be read"),
        ("Probe.anything = f'{" + "(" * 5000 + ")" * 5000 + "}'\n", "probe.gin: "),
        ("Probe.anything = {[1]: 2}\n", "unhashable type"),
        ("Probe.steps = 0x" + "f" * 9000 + "\nProbe.lr = 'x'\n", ":2: Probe.lr expects float"),
        ("Probe.name = (" + "'x' " * 3000 + "7)\n", "probe.gin: "),
        ("'''never closed\n", "probe.gin: "),
        ("Probe.steps =", "Unable to parse value"),
        ("Probe.steps = -", "probe.gin: "),
        ("Probe.steps = (1,\n", "probe.gin: "),
        ("Probe:\n", "probe.gin: "),
        ("include\n", "probe.gin: "),
        ("include 3\n", "Expected file path as string"),
        ("include ''\n", ":1: gin file '' does not exist"),
        ("Probe.name = 0x" + "f" * 9000 + "\n", ":1: Probe.name expects str, got an int of 36000 bits"),
        ("include 'a\\0b'\n", "does not exist"),
        (f"include '{'x' * 300}'\n", "x' does not exist"),
        ("include '.'\n", ":1: gin file '.' is a folder"),
        ("Probe.steps = 1\0\n", "probe.gin: "),
        ("Probe.steps = %N0\n" + "".join(f"N{i} = %N{i + 1}\n" for i in range(3000)), "more than 50 macros"),
    ],
)
def test_no_text_of_a_file_ends_in_a_traceback(gin_file, text, words):
    message = refused(files=[gin_file(text)])
    assert words in message and len(message.splitlines()[1]) < 1000


@pytest.mark.parametrize("field", ["steps", "name", "inner"])
def test_no_flag_ends_in_a_traceback(field):
    for value in (NESTED, NESTED[4000:6000], "(" * 5000):
        if field == "name":
            assert build(f"Probe.name={value}").name == value
        else:
            assert len(refused(f"Probe.{field}={value}")) < 1000


def test_an_include_is_what_gins_parser_says_it_is(gin_file, tmp_path, monkeypatch):
    """Not the lines of a string or a comment that look like one; any quotes, escapes, blanks and marks in the name."""
    gin_file("Probe.steps = 4\n", "ba#se.gin")
    gin_file("Probe.lr = 0.5\n", 'it\'s "two" words ü.gin')
    gin_file(b"\xef\xbb\xbfProbe.flag = True\r\nProbe.optional = 7\r\n", "bom_crlf.gin")
    text = """
    include 'ba#se.gin'  # include 'nowhere.gin'
    include "it's \\"two\\" words \\u00fc.gin"
    include   'bom_'   'crlf.gin'
    # include 'nowhere.gin'
    Probe.words = ("it", '''
    include 'nowhere.gin'
    include nowhere
    ''',)
    Probe.table = {
    'include ': 1.0,
    "include 'nowhere.gin'": 2.0,
    }
    include = 3
    Probe.union = \\
        %include"""
    lines = "\n".join(line.removeprefix("    ") for line in text.splitlines())
    outer = gin_file(lines.replace("\n", "\r\n").encode())
    monkeypatch.chdir(tmp_path)
    probe = build(files=[outer])
    assert (probe.steps, probe.lr, probe.flag, probe.optional, probe.union) == (4, 0.5, True, 7, 3)
    assert probe.words == ("it", "\ninclude 'nowhere.gin'\ninclude nowhere\n")
    assert probe.table == {"include ": 1.0, "include 'nowhere.gin'": 2.0}


def test_includes_are_found_beside_the_file_that_includes_them(gin_file, tmp_path, monkeypatch):
    for folder in ("runs", "runs/parts", "elsewhere"):
        (tmp_path / folder).mkdir()
    outer = gin_file("include 'parts/one.gin'\n", "runs/run.gin")
    gin_file("include 'two.gin'\ninclude '../../three.gin'\n", "runs/parts/one.gin")
    gin_file("Probe.steps = 2\n", "runs/parts/two.gin")
    gin_file("Probe.steps = 9\n", "elsewhere/two.gin")
    gin_file("Probe.lr = 0.25\n", "three.gin")
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in (outer, "../runs/run.gin"):
        assert build(files=[name]) == dataclasses.replace(Probe(), steps=2, lr=0.25)
    gin_file("Probe.steps = 'x'\n", "runs/parts/two.gin")
    assert "runs/parts/two.gin:1: Probe.steps expects int" in refused(files=[outer])
    gin_file("include 'run.gin'\ninclude 'gone.gin'\n", "runs/parts/two.gin")
    gin_file("include '../run.gin'\n", "three.gin")
    message = refused(files=[outer])
    assert (
        "two.gin:1: gin file 'run.gin' does not exist" in message
        and "two.gin:2: gin file 'gone.gin'" in message
    )


def test_files_that_include_each_other_without_end_are_named(gin_file, tmp_path):
    for i in range(2000):
        gin_file(f"include '{i + 1}.gin'\n", f"{i}.gin")
    assert "'50.gin' stands below 50 files that include each other" in refused(
        files=[str(tmp_path / "0.gin")]
    )
    gin_file("include 'loop.gin'\n", "loop.gin")
    assert "loop.gin:1: gin file 'loop.gin' includes itself" in refused(files=[str(tmp_path / "loop.gin")])
    (tmp_path / "link.gin").symlink_to("turn.gin")
    gin_file("include 'link.gin'\n", "turn.gin")
    assert "includes itself" in refused(files=[str(tmp_path / "turn.gin")])


def test_a_folder_and_a_file_of_other_bytes_are_named(gin_file, tmp_path):
    assert f"gin file '{tmp_path}' is a folder" in refused(files=[str(tmp_path)])
    for text in ("Probe.steps = 1\n".encode("utf-16"), b"Probe.name = 'caf\xe9'\n"):
        assert "probe.gin' cannot be read: 'utf-8' codec" in refused(files=[gin_file(text)])


def test_a_pipe_is_read_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("Probe.steps = 6\n"))
    writer.start()
    assert build(files=[str(pipe)]).steps == 6
    writer.join()


def test_files_of_the_checkout_are_found_by_name_from_anywhere(tmp_path, monkeypatch):
    """With what they include, and with the files of the package that they name; the working directory comes first."""
    from places import REPOSITORY

    from bagpiper_jax.interop.importing import ImportConfig

    monkeypatch.chdir(tmp_path)
    for name in ("runs/nano_start.gin", "gin/runs/nano_start.gin"):
        config = build("ImportConfig.output='out'", files=[name], root=ImportConfig)
        assert config.tower == str(REPOSITORY / "bagpiper_jax/assets/tower_nano.safetensors")
        assert config.tokenizer == "corpora/embedded/tokenizer.json", "of the working directory"
    assert "did you mean 'runs/nano_start.gin'?" in refused(files=["runs/nano_strat.gin"])
    (tmp_path / "gin/runs").mkdir(parents=True)
    (tmp_path / "gin/runs/nano_start.gin").write_text("Probe.steps = 11\n")
    assert build(files=["runs/nano_start.gin"]).steps == 11
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/nano_start.gin").write_text("Probe.steps = 12\n")
    assert build(files=["runs/nano_start.gin"]).steps == 12
    mine = tmp_path / "bagpiper_jax/assets/tower_nano.safetensors"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"")
    for value in (
        "bagpiper_jax/assets/tower_nano.safetensors",
        "bagpiper_jax/assets/none.safetensors",
        "x" * 9000,
    ):
        assert build(f"Probe.name={value}").name == value
