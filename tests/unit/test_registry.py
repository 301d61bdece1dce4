"""The registry: names of this program, of installed packages, and of nobody."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import entry_points

import pytest

from softprompt import registry
from softprompt.errors import ConfigError
from softprompt.registry import Registry

GROUP = "softprompt.test_things"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package: a value, one under a taken name, two things that are not there, and one that is broken."""
    (tmp_path / "offering_things.py").write_text("VALUE = ['offered']\n")
    (tmp_path / "breaking_things.py").write_text("VALUE = [1 / 0]\n")
    info = tmp_path / "offering_things-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offering-things\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{GROUP}]\noffered = offering_things:VALUE\ntaken = offering_things:VALUE\n"
        "lost = offering_things:NONE\ngone = no_such_module_anywhere\nbroken = breaking_things:VALUE\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("offering_things", None)


def test_a_value_is_found_by_name():
    things: Registry[list[str]] = Registry("thing", GROUP)
    value = ["a"]
    things.add("mine", value)
    things.add("mine", value)
    assert things.get("mine") is value
    assert things.names() == ("mine",)


def test_a_name_stands_for_one_value():
    things: Registry[list[str]] = Registry("thing", GROUP)
    things.add("mine", ["a"])
    with pytest.raises(ConfigError, match="The thing 'mine' is taken; register yours under another name"):
        things.add("mine", ["a"])


def test_an_unknown_name_is_an_error():
    things: Registry[list[str]] = Registry("thing", GROUP)
    things.add("mine", ["a"])
    with pytest.raises(ConfigError, match=r"Unknown thing 'mime'. Did you mean 'mine'"):
        things.get("mime")


@pytest.mark.usefixtures("package")
def test_an_installed_package_offers_values():
    things: Registry[list[str]] = Registry("thing", GROUP)
    things.add("taken", ["mine"])
    assert things.names() == ("broken", "gone", "lost", "offered", "taken")
    assert things.get("offered") == ["offered"]
    assert things.get("taken") == ["mine"]
    with pytest.raises(ConfigError, match="Known: broken, gone, lost, offered, taken"):
        things.get("else")


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("name", ["lost", "gone", "broken"])
def test_an_offer_that_does_not_load_is_an_error(name):
    things: Registry[list[str]] = Registry("thing", GROUP)
    with pytest.raises(ConfigError, match=f"thing '{name}' of the group {GROUP} .* does not load.*Repair or remove"):
        things.get(name)


@pytest.mark.usefixtures("package")
def test_a_name_that_two_packages_offer_is_refused(tmp_path):
    info = tmp_path / "other_things-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-things\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\noffered = other_things:VALUE\n")
    things: Registry[list[str]] = Registry("thing", GROUP)
    want = "Several packages offer the thing 'offered': offering_things:VALUE, other_things:VALUE. Remove all but one"
    with pytest.raises(ConfigError, match=want):
        things.get("offered")


@pytest.mark.usefixtures("package")
def test_a_package_that_comes_while_the_program_runs_is_seen(tmp_path):
    """What packages offer is kept, for to read all of them takes long."""
    things: Registry[list[str]] = Registry("thing", GROUP)
    assert "late" not in things.names()
    info = tmp_path / "late_things-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: late-things\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nlate = offering_things:VALUE\n")
    assert "late" in things.names()
    assert things.get("late") == ["offered"]


@pytest.mark.usefixtures("package")
def test_what_packages_offer_is_read_once(monkeypatch):
    """Every run read all installed packages several times, 10 ms each."""
    read = []
    monkeypatch.setattr(registry, "entry_points", lambda: read.append(1) or entry_points())
    for _ in range(3):
        Registry("thing", GROUP).names()
        Registry("other thing", "softprompt.other_things").names()
    assert len(read) == 1


@pytest.mark.usefixtures("package")
def test_a_value_is_known_by_its_name_whatever_else_is_broken():
    mine = ["a"]
    things: Registry[list[str]] = Registry("thing", GROUP, {"mine": mine})
    assert things.name_of(mine) == "mine"
    assert things.name_of(["a"]) is None  # an equal value is another one
    offered = importlib.import_module("offering_things").VALUE
    assert things.name_of(offered) == "offered"
