"""What a run may train, by name: a way to make prompts, or weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from softprompt.config import check_lists, choose, from_mapping
from softprompt.prompts import registry
from softprompt.prompts.registry import Method
from softprompt.training.weights import WEIGHT_METHODS, WeightMethod

__all__ = ["find_method"]


def find_method(name: str, settings: Mapping[str, Any]) -> Method | WeightMethod:
    """What a run trains, from plain settings: a way to make prompts, or a baseline.

    Args:
        name: As a configuration calls it.
        settings: Of the method alone.

    Raises:
        ConfigError: If there is none of that name, or a setting is unknown.
    """
    if name in WEIGHT_METHODS:
        check_lists(WEIGHT_METHODS[name], settings)
        return from_mapping(WEIGHT_METHODS[name], settings)
    if name not in registry.names():
        raise choose("method", name, (*registry.names(), *WEIGHT_METHODS))
    method: Method = registry.find(name).from_settings(settings)
    return method
