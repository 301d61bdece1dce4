"""How a task is answered: its labels are ranked where it has any; other text is generated."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

__all__ = ["By", "choose_way"]

By = Literal["generate", "rank"]


def choose_way(by: By | None, labels: Collection[str] | None) -> By:
    """The one rule for whoever trains, evaluates or predicts, so that a score means the same everywhere.

    Args:
        by: What was asked for; None leaves it to the rule.
        labels: The legal targets; None or none where targets are free text.
    """
    return by or ("rank" if labels else "generate")
