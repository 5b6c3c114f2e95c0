"""Frozen dataclasses as plain values, and back without trusting them: what a file or an index row may hold."""

from __future__ import annotations

import dataclasses
import types
import typing
from functools import cache
from typing import Any, Literal, TypeVar

from omni_gen3d.errors import InputError

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Dictionaries, lists and scalars that JSON and YAML hold exactly; dataclasses in the order of their fields."""
    own_writer = getattr(value, "to_plain", None)
    if own_writer is not None:
        return own_writer()
    if dataclasses.is_dataclass(value):
        return {entry.name: to_plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: to_plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(entry) for entry in value]
    return value


def from_plain(kind: type[T], values: Any, where: str) -> T:
    """Inverse of ``to_plain`` for a dataclass whose fields are scalars, tuples, dictionaries and such dataclasses.

    A field that is left out takes its default.

    Args:
        kind: The dataclass.
        values: What was read.
        where: Names the values in messages.

    Raises:
        InputError: A key is unknown or missing, or a value is of the wrong type, not finite or out of range.
    """
    fields, hints, required = _shape(kind)
    if not isinstance(values, dict):
        raise InputError(f"{where} is {_shown(values)}; expected the keys {', '.join(fields)}.")
    unknown = [str(name) for name in values if name not in fields]
    if unknown:
        raise InputError(f"{where} holds the key '{unknown[0]}'; allowed are {', '.join(fields)}.")
    given = {name: _convert(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    absent = [name for name in required if name not in given]
    if absent:
        raise InputError(f"{where} lacks the key '{absent[0]}'; expected are {', '.join(fields)}.")
    return kind(**given)


@cache
def _shape(kind: Any) -> tuple[tuple[str, ...], dict[str, Any], tuple[str, ...]]:
    """Names of the fields of a dataclass, their types, and the names of those without a default."""
    fields = dataclasses.fields(kind)
    required = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    return tuple(f.name for f in fields), typing.get_type_hints(kind), tuple(required)


@cache
def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    return typing.get_origin(hint), typing.get_args(hint)


def _convert(hint: Any, value: Any, where: str) -> Any:
    if hint is float and type(value) in (int, float) and -_LARGEST < value < _LARGEST:
        return float(value)
    if hint is type(value) and hint in (str, int, bool):
        return value
    origin, arguments = _parts(hint)
    if origin in (types.UnionType, typing.Union):
        options = [option for option in arguments if option is not types.NoneType]
        if value is None and len(options) < len(arguments):
            return None
        # The first that fits: bool before int before float, as the hints are written.
        for option in options[:-1]:
            try:
                return _convert(option, value, where)
            except InputError:
                continue
        return _convert(options[-1], value, where)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool):
            raise InputError(f"{where} is {_shown(value)}; allowed are {', '.join(map(str, arguments))}.")
        return value
    if origin is tuple:
        count = None if arguments[-1] is Ellipsis else len(arguments)
        if not isinstance(value, list | tuple) or count not in (None, len(value)):
            raise InputError(f"{where} is {_shown(value)}; expected a list{f' of {count}' if count else ''}.")
        kinds = arguments if count else arguments[:1] * len(value)
        return tuple(_convert(kind, entry, where) for kind, entry in zip(kinds, value, strict=True))
    if origin is dict:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise InputError(f"{where} is {_shown(value)}; expected a mapping from names to values.")
        return {key: _convert(arguments[1], entry, f"{where}.{key}") for key, entry in value.items()}
    own_reader = getattr(hint, "from_plain", None)
    if own_reader is not None:
        return own_reader(value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_plain(hint, value, where)
    raise InputError(f"{where} is {_shown(value)}; expected {_NAMES[hint]}.")


# Finite, and no integer that a float cannot hold.
_LARGEST = 1e300
_NAMES = {float: "a finite number", int: "an integer", str: "text", bool: "true or false"}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
