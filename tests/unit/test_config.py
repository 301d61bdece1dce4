"""Settings: to and from plain values, with errors that name the field."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import yaml

from softprompt.config import choose, from_mapping, to_mapping, write_yaml
from softprompt.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    """Settings within settings."""

    rates: tuple[float, ...] = (0.1, 0.3)


@dataclass(frozen=True)
class Outer:
    """Settings of every kind."""

    name: str
    folder: Path
    inner: Inner = field(default_factory=Inner)
    extra: dict[int, Path] = field(default_factory=dict)
    computed: int = field(default=3, init=False)


def test_settings_become_plain_values():
    values = to_mapping(Outer("a", Path("runs"), extra={1: Path("x")}))
    assert values == {"name": "a", "folder": "runs", "inner": {"rates": [0.1, 0.3]}, "extra": {"1": "x"}}


def test_settings_are_built_from_values():
    assert from_mapping(Inner, {"rates": (1.0,)}) == Inner((1.0,))
    assert from_mapping(Inner, {}) == Inner()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nam": "a"}, r"Unknown setting of Outer 'nam'\. Did you mean 'name'\? Known: extra, folder, inner, name\."),
        ({"computed": 3}, "Unknown setting of Outer 'computed'"),
        ({}, "Outer needs folder, name; give a value for each"),
        ({"name": "a"}, "Outer needs folder; give"),
    ],
)
def test_wrong_settings_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(Outer, values)


def test_unknown_names_far_from_any_get_no_hint():
    assert str(choose("metric", "zzz", ["b", "a"])) == "Unknown metric 'zzz'. Known: a, b."
    assert str(choose("metric", "zzz", [])) == "Unknown metric 'zzz'. Known: none."


@dataclass(frozen=True)
class Plain:
    """Settings of plain types."""

    rate: float = 0.1
    length: int | None = None
    name: str = "a"
    on: bool = False
    free: int | list[int] = 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": "high"}, "rate='high': expected a number, but got str"),
        ({"rate": True}, "rate=True: expected a number, but got bool"),
        ({"rate": None}, "rate=None: expected a number, but got NoneType"),
        ({"length": 2.5}, "length=2.5: expected a whole number or nothing, but got float"),
        ({"name": 3}, "name=3: expected a text, but got int"),
        ({"on": 1}, "on=1: expected true or false, but got int"),
    ],
)
def test_values_of_a_wrong_type_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(Plain, values)


def test_values_of_the_fields_types_are_taken():
    values = {"rate": 1, "length": np.int64(3), "name": "b", "on": True, "free": [2]}
    assert from_mapping(Plain, values) == Plain(**values)
    assert from_mapping(Plain, {"rate": np.float32(0.5), "length": None}) == Plain(rate=0.5)


def test_what_is_written_can_be_read(tmp_path):
    write_yaml({"b": Path("x"), "a": [1, "ä", None]}, tmp_path / "run.yaml")
    text = (tmp_path / "run.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == {"b": "x", "a": [1, "ä", None]}
    assert text.splitlines()[0] == "b: x"
