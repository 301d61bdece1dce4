"""Methods by name."""

from __future__ import annotations

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
    with pytest.raises(ConfigError, match="The method 'prompt_tuning' is taken"):
        registry.register("prompt_tuning", PrefixTuning)


def test_a_method_without_name_is_refused():
    class Tuned(PromptTuning):
        """A method of its own, however much it takes from another."""

    with pytest.raises(ConfigError, match=r"Tuned is not registered; call .* or offer it in .* softprompt\.methods"):
        registry.name_of(Tuned(length=1))


def test_a_method_of_ones_own(monkeypatch):
    class Tuned(PromptTuning):
        """Another settings class."""

    monkeypatch.setattr(registry.METHODS, "_values", dict(registry.METHODS._values))
    assert registry.register("tuned", Tuned) is Tuned
    assert registry.names() == ("multitask", "p_tuning", "p_tuning_v2", "prefix_tuning", "prompt_tuning", "tuned")
    assert registry.find("tuned") is Tuned
    assert registry.name_of(Tuned(length=1)) == "tuned"
