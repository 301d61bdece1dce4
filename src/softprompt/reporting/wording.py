"""Numbers and names as a report says them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from softprompt.studies import Line

__all__ = [
    "count",
    "labelled",
    "mean_and_deviation",
    "plural",
    "settings_text",
    "short_count",
    "value_text",
]


def mean_and_deviation(scores: Sequence[float]) -> str:
    """`61.5 ± 2.9 (3)`: mean, standard deviation of the sample, and how many; empty without scores."""
    if not scores:
        return ""
    deviation = f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    return f"{statistics.fmean(scores):.1f}{deviation} ({len(scores)})"


def plural(number: int, what: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def count(number: float) -> str:
    """`3,840`, or `0.3`."""
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


def short_count(number: float) -> str:
    """`3,840`, `580 K`, `7.28 M`: as parameters are called."""
    for size, unit in ((1e9, "B"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number / 1e3:.3g} K" if number >= 1e5 else f"{number:,.0f}" if number >= 10 else f"{number:g}"


def labelled(line: Line, *, without: str = "") -> str:
    """A line's method and the values of its axes.

    Args:
        line: Of a summary.
        without: An axis to leave out.
    """
    return settings_text(line.method, {name: value for name, value in line.axes.items() if name != without})


def settings_text(method: str, settings: Mapping[str, Any]) -> str:
    """A method with settings, `prompt tuning, length 20`."""
    return ", ".join([method, *(f"{name} {value_text(value)}" for name, value in settings.items())])


def value_text(value: Any) -> str:
    """A setting's value."""
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case tuple():
            return str(list(value))
    return str(value)
