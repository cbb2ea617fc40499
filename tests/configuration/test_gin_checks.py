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


def test_macros_of_a_scope_are_another_name(gin_file):
    text = "N = 3\nwide/N = 4\nProbe.steps = %N\nProbe.many = (%wide/N,)\n"
    probe = build(files=[gin_file(text)])
    assert probe.steps == 3 and probe.many == (4,)
    assert "uses the macro %N, which is defined nowhere; did you mean 'w/N'" in refused(
        "w/N=3", "Probe.steps=%N"
    )
