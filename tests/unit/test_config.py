"""Settings: to and from plain values, with errors that name the field."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from softprompt.config import choose, from_mapping, read_yaml, to_mapping, write_yaml
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


def test_yaml_round_trip(tmp_path):
    write_yaml({"b": Path("x"), "a": [1, "ä", None]}, tmp_path / "run.yaml")
    assert read_yaml(tmp_path / "run.yaml") == {"b": "x", "a": [1, "ä", None]}
    assert (tmp_path / "run.yaml").read_text(encoding="utf-8").splitlines()[0] == "b: x"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "is not valid YAML"),
        (b"\xff\xfe\x00x", "is not valid YAML"),
        (b"- 1\n- 2\n", "should hold a mapping of settings, but holds list"),
        (b"", "should hold a mapping of settings, but holds NoneType"),
    ],
)
def test_a_file_that_is_no_mapping_is_named(tmp_path, content, message):
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"No configuration file at .*none\.yaml"):
        read_yaml(tmp_path / "none.yaml")


def test_objects_are_not_made_from_yaml(tmp_path):
    (tmp_path / "run.yaml").write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        read_yaml(tmp_path / "run.yaml")
