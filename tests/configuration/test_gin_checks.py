"""Every way to bind a wrong thing in gin: what is said, and that gin then builds what the checks understood."""

import dataclasses
from typing import Any, Literal, Optional

import pytest

from bagpiper_jax import configuration
from bagpiper_jax.configuration import ConfigurationError


@dataclasses.dataclass(frozen=True)
class Inner:
    width: int = 1
    rate: float = 0.1


@dataclasses.dataclass(frozen=True)
class Middle:
    inner: Inner = Inner()
    depth: int = 1


@dataclasses.dataclass(frozen=True)
class Other:
    depth: int = 1


@dataclasses.dataclass(frozen=True)
class Probe:
    steps: int = 1
    lr: float = 0.1
    flag: bool = False
    name: str = ""
    inner: Inner = Inner()
    maybe: Inner | None = None
    middle: Middle = Middle()
    either: Inner | Other = Inner()
    optional: Optional[int] = None  # noqa: UP045
    union: int | str | None = None
    pair: tuple[int, float] = (1, 2.0)
    many: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    nested: tuple[tuple[str, int], ...] = ()
    inners: tuple[Inner, ...] = ()
    numbers: list[int] = dataclasses.field(default_factory=list)
    table: dict[str, float] = dataclasses.field(default_factory=dict)
    by_number: dict[int, str] = dataclasses.field(default_factory=dict)
    inner_table: dict[str, Inner] = dataclasses.field(default_factory=dict)
    mode: Literal["a", "b", 1] = "a"
    anything: Any = None


@dataclasses.dataclass(frozen=True)
class Demanding:
    path: str
    probe: Probe = Probe()


def build(*bindings: str, files=(), root=Probe):
    return configuration.build(root, list(files), list(bindings))


def refused(*bindings: str, files=(), root=Probe) -> str:
    with pytest.raises(ConfigurationError) as error:
        build(*bindings, files=files, root=root)
    return str(error.value)


@pytest.mark.parametrize(
    ("binding", "field", "value"),
    [
        ("lr=1", "lr", 1),
        ("lr=1e-3", "lr", 1e-3),
        ("steps=-0x10", "steps", -16),
        ("optional=None", "optional", None),
        ("optional=3", "optional", 3),
        ("union='x'", "union", "x"),
        ("pair=(1,2)", "pair", (1, 2)),
        ("words=('a',)", "words", ("a",)),
        ("nested=(('a',1),)", "nested", (("a", 1),)),
        ("numbers=[1,2]", "numbers", [1, 2]),
        ("table={'a':1,'b':.5}", "table", {"a": 1, "b": 0.5}),
        ("by_number={1:'a'}", "by_number", {1: "a"}),
        ("mode=1", "mode", 1),
        ("anything={'a':(1,'b')}", "anything", {"a": (1, "b")}),
        ("maybe=@Inner()", "maybe", Inner()),
        ("either=@Other()", "either", Other()),
        ("inners=(@Inner(),@Inner())", "inners", (Inner(), Inner())),
        ("inner_table={'a':@Inner()}", "inner_table", {"a": Inner()}),
        ("name=some/file.gin", "name", "some/file.gin"),
        ("name=3", "name", "3"),
    ],
)
def test_what_fits_is_built(binding, field, value):
    assert getattr(build(f"Probe.{binding}"), field) == value


@pytest.mark.parametrize(
    ("binding", "words"),
    [
        ("steps=1.5", "expects int, got 1.5"),
        ("steps=1e6", "expects int, got 1000000.0; write 1000000"),
        ("steps=True", "expects int, got True"),
        ("steps='3'", "expects int, got '3'"),
        ("steps=None", "expects int, got None"),
        ("lr=True", "expects float, got True"),
        ("lr='0.1'", "expects float, got '0.1'"),
        ("flag=1", "expects bool, got 1"),
        ("flag=true", "expects bool, got 'true'"),
        ("optional=2.5", "expects Optional[int], got 2.5"),
        ("union=1.5", "expects int | str | None, got 1.5"),
        ("pair=(1,)", "expects tuple[int, float], got (1,)"),
        ("pair=(1.5,2)", "expects tuple[int, float], got (1.5, 2)"),
        ("pair=[1,2.0]", "got [1, 2.0]; write a tuple"),
        ("many=(1,'a')", "expects tuple[int, ...], got (1, 'a')"),
        ("many=(1,True)", "expects tuple[int, ...], got (1, True)"),
        ("many=5", "expects tuple[int, ...], got 5"),
        ("words=('a')", "one element is written ('a',)"),
        ("nested=('a',1)", "expects tuple[tuple[str, int], ...]"),
        ("numbers=(1,)", "expects list[int], got (1,)"),
        ("table={'a':'x'}", "expects dict[str, float], got {'a': 'x'}"),
        ("table={1:2.0}", "expects dict[str, float], got {1: 2.0}"),
        ("by_number={'a':'b'}", "expects dict[int, str], got {'a': 'b'}"),
        ("mode='c'", "expects Literal['a', 'b', 1], got 'c'"),
        ("mode=True", "expects Literal['a', 'b', 1], got True"),
        ("inner='Inner'", "expects Inner, got 'Inner'"),
        ("inner=None", "expects Inner, got None"),
        ("inner=@Other()", "expects Inner, got @Other()"),
        ("inner=@Inner", "write @Inner() to build it"),
        ("inner=@Iner()", "refers to unknown name @Iner; did you mean 'Inner'?"),
        ("either=@Middle()", "expects Inner | Other, got @Middle()"),
        ("inners=@Inner()", "expects tuple[Inner, ...], got @Inner()"),
        ("inners=(@Other(),)", "expects tuple[Inner, ...], got (@Other(),)"),
        ("inners=(@Inner,)", "write @Inner() to build it"),
        ("inner_table={'a':@Other()}", "expects dict[str, Inner], got {'a': @Other()}"),
        ("inner_table={'a':@Iner()}", "refers to unknown name @Iner"),
        ("steps=%N", "uses the macro %N, which is defined nowhere"),
        ("many=(%N,1)", "uses the macro %N, which is defined nowhere"),
        ("table={'a':%N}", "uses the macro %N, which is defined nowhere"),
        ("steps=%gin.REQUIRED", "uses the macro %gin.REQUIRED, which is defined nowhere"),
    ],
)
def test_what_does_not_fit_is_named_with_its_remedy(binding, words):
    message = refused(f"Probe.{binding}")
    assert words in message and f"flag --gin.Probe.{binding.partition('=')[0]}: " in message


@pytest.mark.parametrize(
    ("binding", "words"),
    [
        ("Porbe.steps=1", "unknown name 'Porbe'; did you mean 'Probe'?"),
        ("Probe.stesp=1", "Probe has no parameter 'stesp'; did you mean 'steps'?"),
        ("steps=1", "the macro steps is defined but nothing uses it; did you mean 'Probe.steps'?"),
        ("Inner.width=2", "Inner.width is bound but nothing uses it; refer to it with @Inner()"),
        ("x/Inner.width=2", "x/Inner.width is bound but nothing uses it; refer to it with @x/Inner()"),
        ("N/macro.value=2", "unknown name 'macro'"),
    ],
)
def test_names_that_lead_nowhere(binding, words):
    assert words in refused(binding)


@pytest.fixture
def gin_file(tmp_path):
    def write(text: str | bytes, name: str = "probe.gin") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("N = 'x'\nProbe.steps = %N\n", ":2: Probe.steps expects int, got 'x'"),
        ("N = 'a'\nProbe.many = (%N, 2)\n", "got ('a', 2)"),
        ("A = %B\nB = %A\nProbe.steps = %A\n", "defined by itself: A → B → A"),
        ("N = 5\nProbe.table = {'a': %M}\n", "%M, which is defined nowhere; known: N"),
        ("UNUSED = 5\n", ":1: the macro UNUSED is defined but nothing uses it"),
        (
            "Probe.inner = @x/Inner()\nx/Inner.width = 3\ny/Inner.width = 4\n",
            ":3: y/Inner.width is bound but nothing",
        ),
        (
            "Probe.inner = @x/Inner()\nInner.width = 3\nx/Inner.width = 4\n",
            ":2: Inner.width is bound but nothing",
        ),
        (
            "x/Inner.widht = 3\nProbe.inner = @x/Inner()\n",
            ":1: Inner has no parameter 'widht'; did you mean 'width'?",
        ),
        ("Probe.steps = 1\nProbe.steps = 2\n", "probe.gin:2: Probe.steps is bound at "),
        ("N = 1\nN = 2\nProbe.steps = %N\n", ":2: macro N is bound at "),
        ("import os\n", ":1: only bindings, macros and includes"),
        ("Probe.steps = 4 * 2\n", "Expected newline"),
        (
            "include 'gin/models/nanoo.gin'\n",
            ":1: gin file 'gin/models/nanoo.gin' does not exist; did you mean",
        ),
        ("Probe:\n  steps = 4\n  lr = 'x'\n", ":3: Probe.lr expects float"),
        (b"\xff\xfeProbe.steps = 1\n", "cannot be read: 'utf-8' codec"),
    ],
)
def test_faults_of_files_name_their_line(gin_file, text, words):
    assert words in refused(files=[gin_file(text)])


def test_an_include_of_itself_is_named(gin_file, tmp_path):
    first, second = str(tmp_path / "a.gin"), str(tmp_path / "b.gin")
    gin_file(f"include '{second}'\n", "a.gin"), gin_file(f"include '{first}'\n", "b.gin")
    assert "includes itself, by way of" in refused(files=[first])


def test_scopes_macros_and_blocks_build_what_was_meant(gin_file):
    text = """
    # A comment.
    N = %M
    M = 3
    SHARED = @wide/Inner()
    Probe.inner = %SHARED
    Probe.inners = (@wide/Inner(), @Inner())
    Probe.many = (%N, 4)
    Probe.middle = @narrow/Middle()
    narrow/Middle.inner = @Inner()
    narrow/Inner.width = 7
    wide/Inner.width = 9
    Inner.width = 5
    Inner:
      rate = 0.25
    """
    lines = "\n".join(line.removeprefix("    ") for line in text.splitlines())
    probe = build(files=[gin_file("\ufeff" + lines)])
    assert probe.inner == Inner(9, 0.25) and probe.inners == (Inner(9, 0.25), Inner(5, 0.25))
    assert probe.many == (3, 4) and probe.middle == Middle(Inner(7, 0.25))


def test_who_may_replace_a_binding(gin_file):
    """A flag, a later file and an including file after its include may; siblings and what stands above may not."""
    base = gin_file("Probe.steps = 1\n", "base.gin")
    sibling = gin_file("Probe.steps = 2\n", "sibling.gin")
    after = gin_file(f"include '{base}'\nProbe.steps = 3\n", "after.gin")
    assert build(files=[after]).steps == 3
    assert build(files=[base, sibling]).steps == 2
    assert build("Probe.steps=4", "Probe.steps=5", files=[after]).steps == 5
    both = gin_file(f"include '{base}'\ninclude '{sibling}'\n", "both.gin")
    assert "sibling.gin:1: Probe.steps is bound at" in refused(files=[both])
    before = gin_file(f"Probe.steps = 3\ninclude '{base}'\n", "before.gin")
    assert "base.gin:1: Probe.steps is bound at" in refused(files=[before])
    again = gin_file(f"include '{base}'\ninclude '{base}'\n", "again.gin")
    assert build(files=[again]).steps == 1


def test_parameters_without_a_value_come_with_all_other_faults(gin_file):
    message = refused("Probe.steps='x'", "Demanding.probe=@Probe()", root=Demanding)
    assert "Demanding.path has no value; bind --gin.Demanding.path=… (str)" in message
    assert "Probe.steps expects int, got 'x'" in message


def test_faults_of_all_files_come_at_once_and_none_that_a_missing_file_may_explain(gin_file):
    torn, wrong = gin_file("Probe.steps = (1\n", "torn.gin"), gin_file("Probe.lr = 'x'\ninclude 'gone.gin'\n")
    message = refused("Inner.width=2", files=[torn, wrong], root=Demanding)
    assert all(
        words in message for words in ("torn.gin: ", "Probe.lr expects float", "'gone.gin' does not exist")
    )
    assert "has no value" not in message and "nothing uses it" not in message


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
    import os
    import threading

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("Probe.steps = 6\n"))
    writer.start()
    assert build(files=[str(pipe)]).steps == 6
    writer.join()


def test_macros_of_a_scope_are_another_name(gin_file):
    text = "N = 3\nwide/N = 4\nProbe.steps = %N\nProbe.many = (%wide/N,)\n"
    probe = build(files=[gin_file(text)])
    assert probe.steps == 3 and probe.many == (4,)
    assert "uses the macro %N, which is defined nowhere; did you mean 'w/N'" in refused(
        "w/N=3", "Probe.steps=%N"
    )
