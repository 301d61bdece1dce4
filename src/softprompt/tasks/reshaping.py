"""From rows as they were published to rows that a template can fill."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from softprompt.errors import DataError
from softprompt.tasks.rows import Row

__all__ = ["member", "members", "reshape"]

T = TypeVar("T", bool, int, str, list, dict)

KINDS: Mapping[type, str] = {
    bool: "true or false",
    int: "a whole number",
    str: "a text",
    list: "a list",
    dict: "an object",
}


def reshape(rows: Iterable[Row], shape: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]]) -> Iterator[Row]:
    """Turn the columns of each row into those of none, one or several rows with the same place.

    Args:
        rows: The rows; bad ones pass through.
        shape: From the columns of one row to those of others. If it raises a DataError, the row becomes a bad one.
    """
    for row in rows:
        if row.problem:
            yield row
            continue
        try:
            made = list(shape(row.columns))
        except DataError as problem:
            yield replace(row, problem=str(problem))
        else:
            yield from (replace(row, columns=columns) for columns in made)


def member(columns: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """One value of a row, or of an object in it.

    Args:
        columns: The row or object.
        name: The value's name.
        kind: The type it must have; a truth value is no whole number.

    Raises:
        DataError: If it is missing or of another type.
    """
    if name not in columns:
        known = ", ".join(map(repr, columns)) or "nothing"
        raise DataError(f"column {name!r} is missing (there is {known}); use the file as it was published")
    value = columns[name]
    if type(value) is not kind:
        raise DataError(
            f"column {name!r} holds {value!r:.40}; expected {KINDS[kind]}: use the file as it was published"
        )
    return value


def members(columns: Mapping[str, Any], name: str, kind: type[T]) -> list[T]:
    """A list in a row, or in an object in it, all of whose values have one type.

    Args:
        columns: The row or object.
        name: The list's name.
        kind: The type of its values.

    Raises:
        DataError: If it is missing, no list, or holds a value of another type.
    """
    values = enumerate(member(columns, name, list))
    return [member({f"{name}[{index}]": value}, f"{name}[{index}]", kind) for index, value in values]
