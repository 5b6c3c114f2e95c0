"""Frozen dataclasses as plain values, and back without trusting them: what a file or an index row may hold."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Any, Literal, TypeVar

from omni_gen3d.errors import InputError

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Dictionaries, lists and scalars that JSON and YAML hold exactly; dataclasses in the order of their fields."""
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
    fields = {entry.name: entry for entry in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    if not isinstance(values, dict):
        raise InputError(f"{where} is {_shown(values)}; expected the keys {', '.join(fields)}.")
    unknown = [str(name) for name in values if name not in fields]
    if unknown:
        raise InputError(f"{where} holds the key '{unknown[0]}'; allowed are {', '.join(fields)}.")
    hints = typing.get_type_hints(kind)
    given = {name: _convert(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    absent = [
        name
        for name, entry in fields.items()
        if name not in given and entry.default is entry.default_factory is dataclasses.MISSING
    ]
    if absent:
        raise InputError(f"{where} lacks the key '{absent[0]}'; expected are {', '.join(fields)}.")
    return kind(**given)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
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
    if hasattr(hint, "from_plain"):
        return hint.from_plain(value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_plain(hint, value, where)
    if hint is float and type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value):
        return float(value)
    if type(value) is not hint or hint is float:
        raise InputError(f"{where} is {_shown(value)}; expected {_NAMES[hint]}.")
    return value


_NAMES = {float: "a finite number", int: "an integer", str: "text", bool: "true or false"}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
