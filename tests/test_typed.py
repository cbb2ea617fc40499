"""The one type check, against typing's own constructs, and configurations as JSON and back."""

import dataclasses
import json
from typing import Any, Literal, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bagpiper_jax import typed
from bagpiper_jax.models.configs import BagpiperConfig, CodecConfig


@dataclasses.dataclass(frozen=True)
class Inner:
    width: int = 1
    rate: float = 0.5
    shape: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner
    maybe: Inner | None = None
    pairs: tuple[tuple[str, float], ...] = ()
    table: dict[str, tuple[Inner, ...]] = dataclasses.field(default_factory=dict)
    mode: Literal["a", 1] = "a"
    union: int | str | None = None
    loose: tuple = ()
    anything: Any = None


@pytest.mark.parametrize(
    ("annotation", "fit", "misfit"),
    [
        (int, (0, -3, 10**30), (True, 1.0, "1", None)),
        (float, (0, 1.5, -2), (False, float("nan"), float("inf"), "1.5", None)),
        (bool, (True, False), (0, 1, None)),
        (str, ("", "x"), (b"x", 1, None)),
        (None, (None,), (0, "")),
        (Optional[int], (None, 3), (3.0, True)),  # noqa: UP045
        (int | str | None, (None, 3, "x"), (3.0, ("x",))),
        (Literal["a", 1], ("a", 1), (True, 1.0, "b", None)),
        (tuple[int, float], ((1, 2), (1, 2.5)), ((1,), (1, 2, 3), [1, 2], (1.5, 2), (True, 2))),
        (tuple[int, ...], ((), (1, 2)), ([1], (1, "x"), 1)),
        (tuple, ((), (1, "x")), ([], "x")),
        (list[int], ([], [1]), ((1,), [None], "1")),
        (dict[str, float], ({}, {"a": 1}), ({1: 1.0}, {"a": "x"}, [])),
        (dict[str, tuple[Inner, ...]], ({"a": (Inner(),)},), ({"a": (1,)}, {"a": Inner()})),
        (dict, ({}, {1: None}), ([],)),
        (Inner, (Inner(), typed.Unbuilt(Inner, "@Inner()")), (typed.Unbuilt(Outer, "@Outer()"), {}, None)),
        (tuple[Inner, ...], ((Inner(), typed.Unbuilt(Inner, "@Inner()")),), (typed.Unbuilt(Inner, "@Inner()"),)),
        (Any, (None, 1, []), ()),
    ],
)  # fmt: skip
def test_what_fits_an_annotation(annotation, fit, misfit):
    assert all(typed.matches(value, annotation) for value in fit)
    assert not [value for value in misfit if typed.matches(value, annotation)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["inner", "width", "x"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(deadline=None)  # the first example of a kind makes its checks
@given(JSON)
def test_any_json_is_what_the_annotations_say_or_a_type_error(value):
    for kind in (Inner, Outer, dict[str, Inner], tuple[Inner, ...], int | None):
        try:
            built = typed.from_json(kind, value)
        except TypeError:
            continue
        assert typed.matches(built, kind)
        assert not dataclasses.is_dataclass(built) or typed.mistyped(built) is None


def test_a_dataclass_comes_back_from_its_json():
    outer = Outer(Inner(3, 2.0, (1, 2)), Inner(), (("a", 1.0),), {"x": (Inner(), Inner(4))}, 1, "x", (1, "y"))
    for value in (outer, BagpiperConfig(), CodecConfig()):
        back = typed.from_json(type(value), json.loads(json.dumps(dataclasses.asdict(value))))
        assert back == value and typed.mistyped(back) is None
    assert type(typed.from_json(Inner, {"rate": 2}).rate) is float


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inner": None}, "Inner needs an object, got 'None'"),
        ({"inner": {"widht": 3}}, "Inner has no field widht"),
        ({"inner": {"width": 3.5}}, "Inner.width needs int, got '3.5'"),
        ({"inner": {"width": True}}, "Inner.width needs int, got 'True'"),
        ({"inner": {"shape": [1, "x"]}}, "Inner.shape needs int, got 'x'"),
        ({"inner": {"shape": 3}}, "Inner.shape needs tuple[int, ...], got '3'"),
        ({"inner": {}, "maybe": 3}, "Outer.maybe needs Inner | None, got '3'"),
        ({"inner": {}, "pairs": [["a"]]}, "Outer.pairs needs tuple[str, float], got \"['a']\""),
        ({"inner": {}, "table": {"x": [None]}}, "Inner needs an object"),
        ({"inner": {}, "mode": True}, "Outer.mode needs Literal['a', 1], got 'True'"),
        ({}, "missing 1 required positional argument: 'inner'"),
        ([], "Outer needs an object, got '[]'"),
    ],
)
def test_what_does_not_fit_is_named_by_its_field(change, words):
    with pytest.raises(TypeError) as error:
        typed.from_json(Outer, change)
    assert words in str(error.value)
