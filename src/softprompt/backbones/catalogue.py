"""The backbones that come with softprompt, found by `bundled:NAME`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from softprompt.config import choose

__all__ = ["bundled_names", "card", "resolve"]

_PREFIX = "bundled:"
_FOLDER = Path(__file__).parent / "bundled"


def bundled_names() -> list[str]:
    """Names of the bundled backbones, sorted."""
    return sorted(path.parent.name for path in _FOLDER.glob("*/card.json"))


def resolve(name: str) -> str:
    """The folder of a bundled backbone; any other name is returned as it is.

    Raises:
        ConfigError: If no bundled backbone has that name.
    """
    if not name.startswith(_PREFIX):
        return name
    short = name.removeprefix(_PREFIX)
    if short not in bundled_names():
        raise choose("bundled backbone", short, bundled_names())
    return str(_FOLDER / short)


def card(name: str) -> dict[str, Any]:
    """The facts of a bundled backbone: size, training, corpus, licence, held-out loss.

    Raises:
        ConfigError: If no bundled backbone has that name.
    """
    folder = Path(resolve(_PREFIX + name.removeprefix(_PREFIX)))
    facts: dict[str, Any] = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    return facts
