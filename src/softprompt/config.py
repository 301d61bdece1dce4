"""Settings as plain frozen dataclasses: to and from mappings and YAML, with errors that name the field.

A settings class checks itself in `__post_init__` and raises `ConfigError`. Nothing else is asked of it, so
a method, a run and a session are all written and read by the same two functions.
"""

from __future__ import annotations

import dataclasses
import difflib
import numbers
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from softprompt.errors import ConfigError

T = TypeVar("T")

# NumPy's numbers are numbers too; a truth value is one only by name.
_PLAIN: dict[Any, tuple[str, type]] = {
    bool: ("true or false", bool),
    int: ("a whole number", numbers.Integral),
    float: ("a number", numbers.Real),
    str: ("a text", str),
    NoneType: ("nothing", NoneType),
}

_SEVERAL: dict[Any, str] = {int: "whole numbers", str: "texts"}

__all__ = ["check_lists", "check_types", "choose", "from_mapping", "plain_values", "to_mapping", "write_yaml"]


def choose(what: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for an unknown name: what it should name, the nearest known name, and all of them."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return ConfigError(f"Unknown {what} {name!r}.{hint} Known: {', '.join(names) or 'none'}.")


def to_mapping(settings: Any) -> dict[str, Any]:
    """A dataclass as a mapping of plain values (paths become strings, nested dataclasses mappings)."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        if isinstance(value, Mapping):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return plain(settings)


def plain_values(value: Any) -> Any:
    """A nest of mappings and sequences as YAML reads it: lists, not tuples; texts, not paths; keys as they are."""
    if isinstance(value, Mapping):
        return {key: plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_mapping(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build a settings class from a mapping.

    Args:
        kind: A dataclass whose fields are plain values.
        values: Field names and values; fields that are left out keep their defaults.

    Raises:
        ConfigError: If a name is no field of `kind`, a field without default is missing, or a plain value is of
            another type than its field's.
    """
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise choose(f"setting of {kind.__name__}", name, fields)
    required = {
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    if missing := sorted(required - set(values)):
        raise ConfigError(f"{kind.__name__} needs {', '.join(missing)}; give a value for each.")
    check_types(kind, values)
    return kind(**values)


def check_types(kind: type[Any], values: Mapping[str, Any]) -> None:
    """Refuse values of another type than the fields of a settings class have.

    Only numbers, texts, truth values and None are told apart; what a field may hold besides checks itself.

    Args:
        kind: A dataclass.
        values: Values by field name.

    Raises:
        ConfigError: If a value is of another type; the message names its field.
    """
    for name, hint in get_type_hints(kind).items():
        wanted = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if name in values and all(one in _PLAIN for one in wanted) and not any(_fits(values[name], w) for w in wanted):
            words = " or ".join(_PLAIN[one][0] for one in wanted)
            raise ConfigError(f"{name}={values[name]!r}: expected {words}, but got {type(values[name]).__name__}.")


def check_lists(kind: type[Any], values: Mapping[str, Any]) -> None:
    """Refuse what is no list of whole numbers or texts, for the fields of a settings class that hold such a list.

    Args:
        kind: A dataclass.
        values: Values by field name.

    Raises:
        ConfigError: If a value is something else; the message names its field.
    """
    for name, hint in get_type_hints(kind).items():
        wanted = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        inner = [get_args(one)[0] for one in wanted if get_origin(one) is Sequence]
        if name not in values or not inner or any(one in _PLAIN and _fits(values[name], one) for one in wanted):
            continue
        value = values[name]
        if isinstance(value, str) or not isinstance(value, Sequence) or not all(_fits(one, inner[0]) for one in value):
            besides = "".join(f", or {_PLAIN[one][0]}" for one in wanted if one in _PLAIN)
            raise ConfigError(f"{name}={value!r}: expected a list of {_SEVERAL[inner[0]]}{besides}.")


def _fits(value: Any, wanted: type) -> bool:
    return isinstance(value, _PLAIN[wanted][1]) and (wanted is bool or not isinstance(value, bool))


def write_yaml(values: Mapping[str, Any], path: str | Path) -> None:
    """Write a mapping as YAML, in its own order."""
    Path(path).write_text(yaml.safe_dump(to_mapping(values), sort_keys=False, allow_unicode=True), encoding="utf-8")
