"""Checks of gin bindings against the annotations of the dataclasses they bind; every fault is found, none is raised."""

import dataclasses
import difflib
import typing
from collections.abc import Mapping

from bagpiper_jax import typed
from bagpiper_jax.configuration.bindings import Binding, Reference

Classes = Mapping[str, type]

_LONGEST_CHAIN = 50  # macros that refer to each other


def faults(root: type, bindings: list[Binding], classes: Classes, is_whole: bool = True) -> list[str]:
    """Unknown names, values of a wrong type, bindings and macros that nothing uses, parameters without a value.

    Args:
        is_whole: False if files could not be read, as what is unused or missing then depends on them.
    """
    effective = {binding.key: binding for binding in bindings}
    macros = {b.scoped_name: b for b in effective.values() if not b.field}
    found = [fault for b in bindings if b.field and (fault := _fault(b, macros, classes))]
    return found + (_of_the_whole(root, effective, macros, classes) if is_whole else [])


def _of_the_whole(
    root: type, effective: Mapping[tuple, Binding], macros: Mapping[str, Binding], classes: Classes
) -> list[str]:
    """What no binding shows by itself: bindings and macros that nothing uses, parameters without a value."""
    used = _Used(effective, macros, classes)
    used.visit(root.__name__, "")
    known = [b for b in effective.values() if b.field and _is_known(b, classes)]
    found = [
        f"{b.place}: {b} is bound but nothing uses it; refer to it with @{b.scope}{'/' * bool(b.scope)}{b.name}() or "
        "remove it"
        for b in known
        if b.key not in used.keys
    ]
    found += [
        f"{b.place}: the macro {name} is defined but nothing uses it{_field_of(name, classes)}"
        for name, b in macros.items()
        if b.key not in used.keys
    ]
    return found + used.missing


def _is_known(binding: Binding, classes: Classes) -> bool:
    return binding.name in classes and binding.field in typing.get_type_hints(classes[binding.name])


def _fault(binding: Binding, macros: Mapping[str, Binding], classes: Classes) -> str | None:
    """What is wrong with one binding by itself."""
    if binding.name not in classes:
        return f"{binding.place}: unknown name {binding.name!r}{suggest(binding.name, classes)}"
    hints = typing.get_type_hints(classes[binding.name])
    if binding.field not in hints:
        return f"{binding.place}: {binding.name} has no parameter {binding.field!r}{suggest(binding.field, hints)}"
    try:
        value = _resolved(binding.value, macros, classes)
    except _BadReference as error:
        return f"{binding.place}: {binding} {error}"
    annotation = hints[binding.field]
    if typed.matches(value, annotation):
        return None
    expected = typed.spell(annotation)
    return f"{binding.place}: {binding} expects {expected}, got {_shown(value)}{_hint(value, annotation)}"


def _shown(value) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than some thousand digits
        return f"an int of {value.bit_length()} bits" if isinstance(value, int) else "too large an integer"
    return text if len(text) < 200 else f"{text[:150]} … {text[-30:]}"


def suggest(name: str, known) -> str:
    """The nearest known name, or all of them."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"


def _field_of(name: str, classes: Classes) -> str:
    """A macro may be a parameter whose class was forgotten."""
    owners = [c for c, cls in classes.items() if name in typing.get_type_hints(cls)]
    return f"; did you mean '{owners[0]}.{name}'?" if owners else "; use it as %" + name + " or remove it"


class _BadReference(ValueError):
    """A reference to what does not exist."""


def _resolved(value, macros: Mapping[str, Binding], classes: Classes, through: tuple[str, ...] = ()):
    """The value with its macros replaced, and references to classes by what they will build. Raises _BadReference."""
    if isinstance(value, Reference):
        if value.is_macro:
            return _macro(value.name, macros, classes, through)
        if value.name not in classes:
            raise _BadReference(f"refers to unknown name @{value.name}{suggest(value.name, classes)}")
        if not value.is_call:
            raise _BadReference(f"refers to @{value.name}; write @{value.name}() to build it")
        return typed.Unbuilt(classes[value.name], repr(value))
    if isinstance(value, tuple | list):
        return type(value)(_resolved(v, macros, classes, through) for v in value)
    if isinstance(value, dict):
        return {k: _resolved(v, macros, classes, through) for k, v in value.items()}
    return value


def _macro(name: str, macros: Mapping[str, Binding], classes: Classes, through: tuple[str, ...]):
    if name not in macros:
        hint = suggest(name, macros) if macros else ""
        raise _BadReference(f"uses the macro %{name}, which is defined nowhere{hint}")
    if name in through:
        raise _BadReference(
            f"uses the macro %{name}, which is defined by itself: {' → '.join((*through, name))}"
        )
    if len(through) > _LONGEST_CHAIN:
        raise _BadReference(f"uses a chain of more than {_LONGEST_CHAIN} macros")
    return _resolved(macros[name].value, macros, classes, (*through, name))


def _hint(value, annotation) -> str:
    if isinstance(value, float) and value.is_integer() and int in typed.leaves(annotation):
        return f"; write {int(value)}"
    if isinstance(value, list) and typing.get_origin(annotation) is tuple:
        return "; write a tuple, (…,)"
    if isinstance(value, str) and typing.get_origin(annotation) is tuple:
        return f"; one element is written ({value!r},)"
    return ""


class _Used:
    """What building the root would use, found by following references as gin does.

    A scope holds for everything that is built within it, until a reference names another.
    """

    def __init__(self, effective: Mapping[tuple, Binding], macros: Mapping[str, Binding], classes: Classes):
        self.keys: set[tuple[str, str, str]] = set()
        self.missing: list[str] = []
        self._effective, self._macros, self._classes = effective, macros, classes
        self._visited: set[tuple[str, str]] = set()

    def visit(self, name: str, scope: str) -> None:
        if (name, scope) in self._visited or name not in self._classes:
            return
        self._visited.add((name, scope))
        for field in dataclasses.fields(self._classes[name]):
            binding = self._bound(name, field.name, scope)
            if binding:
                self.keys.add(binding.key)
                self._follow(binding.value, scope)
            elif field.init and field.default is field.default_factory is dataclasses.MISSING:
                path = f"{scope}/{name}" if scope else name
                kind = typed.spell(typing.get_type_hints(self._classes[name])[field.name])
                self.missing.append(
                    f"{name}.{field.name} has no value; bind --gin.{path}.{field.name}=… ({kind})"
                )

    def _bound(self, name: str, field: str, scope: str) -> Binding | None:
        """The binding of the innermost scope."""
        parts = scope.split("/") if scope else []
        for depth in range(len(parts), -1, -1):
            found = self._effective.get(("/".join(parts[:depth]), name, field))
            if found:
                return found
        return None

    def _follow(self, value, scope: str) -> None:
        while isinstance(value, Reference) and value.is_macro:
            macro = self._macros.get(value.name)
            if not macro or macro.key in self.keys:
                return
            self.keys.add(macro.key)
            value = macro.value
        if isinstance(value, Reference):
            self.visit(value.name, value.scope or scope)
        elif isinstance(value, Mapping):
            for item in value.values():
                self._follow(item, scope)
        elif isinstance(value, tuple | list):
            for item in value:
                self._follow(item, scope)
