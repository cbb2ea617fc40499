"""The one run-time type check: whether values, from gin, from JSON or from callers, are what annotations say.

A whole number passes for a float, a truth value for neither number, and a float must be finite. Containers are checked
down to their elements.
"""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Unbuilt:
    """Stands for an object of a class that will be built later, as gin's `@Name()` does.

    Attributes:
        kind: the class.
        spelling: how it is written, for messages.
    """

    kind: type
    spelling: str

    def __repr__(self) -> str:
        return self.spelling


def matches(value: Any, annotation: Any) -> bool:
    """Whether a value is of the annotated type."""
    return _check(annotation)(value)


def mistyped(instance: Any) -> str | None:
    """What is wrong with the first field of a dataclass whose value is not what its annotation says, or None."""
    for name, annotation, check in _fields(type(instance)):
        if not check(value := getattr(instance, name)):
            return f"{name} must be {spell(annotation)}, got {str(value)[:80]!r}"
    return None


def from_json(annotation: Any, value: Any, where: str = "") -> Any:
    """What an annotation says, of parsed JSON: dataclasses of objects, tuples of lists, floats of whole numbers.

    Args:
        annotation: a dataclass, or the annotation of a field.
        value: of `json.loads`; of a dataclass what `dataclasses.asdict` wrote.
        where: the field, for messages.

    Raises:
        TypeError: a field that a dataclass doesn't have, or one without a value; a value of another type.
    """
    try:
        built = _built(annotation, value, where)
    except RecursionError:
        raise TypeError(f"{where or spell(annotation)} is nested too deeply") from None
    if not matches(built, annotation):
        raise TypeError(f"{where} needs {spell(annotation)}, got {str(value)[:80]!r}")
    return built


def _built(annotation: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if dataclasses.is_dataclass(annotation):
        return _built_dataclass(annotation, value)
    if origin in _UNIONS:
        return _built_union(arguments, value, where)
    if annotation is float and type(value) is int:
        return float(value)
    if annotation is tuple and isinstance(value, list):
        return tuple(value)
    if origin is dict and isinstance(value, dict):
        return {key: from_json(arguments[1], item, where) for key, item in value.items()}
    if origin in (tuple, list) and isinstance(value, list):
        is_fixed = origin is tuple and arguments[-1:] != (Ellipsis,)
        kinds = arguments if is_fixed else arguments[:1] * len(value)
        if len(kinds) == len(value):
            return origin(from_json(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    return value


def _built_dataclass(kind: type, content: Any) -> Any:
    if not isinstance(content, dict):
        raise TypeError(f"{kind.__name__} needs an object, got {str(content)[:80]!r}")
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := sorted(map(str, content.keys() - known)):
        raise TypeError(f"{kind.__name__} has no field {', '.join(unknown)[:200]}")
    return kind(
        **{name: from_json(hints[name], item, f"{kind.__name__}.{name}") for name, item in content.items()}
    )


def _built_union(kinds: tuple, value: Any, where: str) -> Any:
    for kind in kinds:
        try:
            return from_json(kind, value, where)
        except TypeError:
            continue
    return value


_UNIONS = (typing.Union, types.UnionType)


@functools.lru_cache(maxsize=256)
def _fields(cls: type) -> tuple[tuple[str, Any, Callable[[Any], bool]], ...]:
    """(name, annotation, its check) of each field of a dataclass."""
    hints = typing.get_type_hints(cls)
    return tuple((f.name, hints[f.name], _check(hints[f.name])) for f in dataclasses.fields(cls))


@functools.lru_cache(maxsize=4096)
def _check(annotation: Any) -> Callable[[Any], bool]:
    """The check of an annotation, made once: manifests have millions of values."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return lambda value: True
    if annotation in (None, types.NoneType):
        return lambda value: value is None
    if annotation is float:
        return lambda value: (
            isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)
        )
    if annotation is int:
        return lambda value: isinstance(value, int) and type(value) is not bool
    if origin in _UNIONS:
        checks = [_check(argument) for argument in arguments]
        classes = tuple(
            a for a in arguments if isinstance(a, type) and a not in (int, float) and not typing.get_args(a)
        )
        return lambda value: isinstance(value, classes) or any(check(value) for check in checks)
    if origin is typing.Literal:
        return lambda value: any(type(value) is type(a) and value == a for a in arguments)
    if origin is None:
        return lambda value: isinstance(value, annotation) or _will_be(value, annotation)
    return _container_check(origin, arguments)


def _container_check(origin: type, arguments: tuple) -> Callable[[Any], bool]:
    checks = [_check(argument) for argument in arguments if argument is not Ellipsis]
    if issubclass(origin, Mapping):
        of_key, of_item = checks
        return lambda value: (
            isinstance(value, origin) and all(of_key(k) and of_item(i) for k, i in value.items())
        )
    if origin is tuple and arguments[-1:] != (Ellipsis,):
        return lambda value: (
            isinstance(value, tuple)
            and len(value) == len(checks)
            and all(check(item) for check, item in zip(checks, value, strict=True))
        )
    (of_item,) = checks
    return lambda value: (
        isinstance(value, origin)
        and isinstance(value, Iterable)
        and not isinstance(value, str)
        and all(of_item(item) for item in value)
    )


def _will_be(value: Any, kind: type) -> bool:
    return isinstance(value, Unbuilt) and issubclass(value.kind, kind)


def spell(annotation: Any) -> str:
    """An annotation as one writes it: `int | None`, `tuple[Inner, ...]`."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    text = str(annotation).replace("typing.", "")
    for leaf in leaves(annotation):
        if isinstance(leaf, type) and leaf.__module__ != "builtins":
            text = text.replace(f"{leaf.__module__}.{leaf.__qualname__}", leaf.__name__)
    return text


def leaves(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of."""
    arguments = typing.get_args(annotation)
    if not arguments:
        yield annotation
    for argument in arguments:
        yield from leaves(argument)
