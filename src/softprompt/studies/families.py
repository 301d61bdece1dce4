"""Backbones that differ in size alone, by their names."""

from __future__ import annotations

import re

__all__ = ["family_of", "size_of"]

_SIZE = re.compile(r"tiny|mini|small|medium|base|large|x+l|\d+(\.\d+)?[mb]", re.IGNORECASE)
_MARKS = re.compile(r"([-_/:])")


def family_of(backbone: str) -> str:
    """A backbone's name without the word for its size: `bundled:t5` of `bundled:t5-tiny`."""
    parts = _MARKS.split(backbone)
    kept: list[str] = []
    for mark, part in zip(["", *parts[1::2]], parts[::2], strict=True):
        if not _SIZE.fullmatch(part):
            kept += [mark, part]
    return "".join(kept)


def size_of(backbone: str) -> str:
    """The word for its size, such as `tiny` or `0.6B`; empty if its name has none."""
    return "-".join(part for part in _MARKS.split(backbone)[::2] if _SIZE.fullmatch(part))
