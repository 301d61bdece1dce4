"""The registry: names of this program, of installed packages, and of nobody."""

from __future__ import annotations

import pytest

from softprompt.errors import ConfigError
from softprompt.tasks.registry import Registry

GROUP = "softprompt.test_things"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package that offers a value, a value under a taken name, and two things that are not there."""
    (tmp_path / "offering_things.py").write_text("VALUE = ['offered']\n")
    info = tmp_path / "offering_things-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offering-things\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{GROUP}]\noffered = offering_things:VALUE\ntaken = offering_things:VALUE\n"
        "lost = offering_things:NONE\ngone = no_such_module_anywhere\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


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
    with pytest.raises(ConfigError, match="There already is a thing 'mine'; register yours under another name"):
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
    assert things.names() == ("gone", "lost", "offered", "taken")
    assert things.get("offered") == ["offered"]
    assert things.get("taken") == ["mine"]


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("name", ["lost", "gone"])
def test_an_offer_that_does_not_load_is_an_error(name):
    things: Registry[list[str]] = Registry("thing", GROUP)
    with pytest.raises(ConfigError, match=f"thing '{name}' of the group {GROUP} .* does not load.*Repair or remove"):
        things.get(name)
