"""Methods by name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from softprompt.errors import ConfigError
from softprompt.prompts import PrefixTuning, PromptTuning, registry


def test_the_built_in_methods():
    assert registry.find("prompt_tuning") is PromptTuning
    assert registry.find("prefix_tuning") is PrefixTuning
    assert registry.name_of(PrefixTuning(length=3)) == "prefix_tuning"


def test_an_unknown_method_is_named():
    with pytest.raises(ConfigError, match=r"Unknown method 'prompt_tunning'. Did you mean 'prompt_tuning'"):
        registry.find("prompt_tunning")


def test_a_name_is_given_once():
    with pytest.raises(ConfigError, match="A method named 'prompt_tuning' exists"):
        registry.register("prompt_tuning", PromptTuning)


def test_a_method_without_name_is_refused():
    class Tuned(PromptTuning):
        """A method of its own, however much it takes from another."""

    with pytest.raises(ConfigError, match="Tuned is not registered; call"):
        registry.name_of(Tuned(length=1))


def test_another_packages_method_is_found(monkeypatch):
    def entries(*, group: str, name: str):
        assert group == "softprompt.methods"
        return [SimpleNamespace(load=lambda: PromptTuning)] if name == "theirs" else []

    monkeypatch.setattr(registry, "METHODS", dict(registry.METHODS))
    monkeypatch.setattr(registry, "entry_points", entries)
    assert registry.find("theirs") is PromptTuning
