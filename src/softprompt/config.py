"""Settings as plain frozen dataclasses: to and from mappings and YAML, with errors that name the field.

A settings class checks itself in `__post_init__` and raises `ConfigError`. Nothing else is asked of it, so
a method, a run and a session are all written and read by the same two functions.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from softprompt.errors import ConfigError

T = TypeVar("T")

__all__ = ["choose", "from_mapping", "read_yaml", "to_mapping", "write_yaml"]


def choose(what: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for an unknown name: what it should name, the nearest known name, and all of them."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return ConfigError(f"Unknown {what} {name!r}.{hint} Known: {', '.join(names)}.")


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


def from_mapping(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build a settings class from a mapping.

    Args:
        kind: A dataclass whose fields are plain values.
        values: Field names and values; fields that are left out keep their defaults.

    Raises:
        ConfigError: If a name is no field of `kind`, or a field without default is missing.
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
    return kind(**values)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises:
        ConfigError: If the file is missing, is no YAML, or holds something else.
    """
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.safe_load(file)
    except FileNotFoundError:
        raise ConfigError(f"No configuration file at {path}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} should hold a mapping of settings, but holds {type(values).__name__}.")
    return values


def write_yaml(values: Mapping[str, Any], path: str | Path) -> None:
    """Write a mapping as YAML, in its own order."""
    Path(path).write_text(yaml.safe_dump(to_mapping(values), sort_keys=False, allow_unicode=True), encoding="utf-8")
