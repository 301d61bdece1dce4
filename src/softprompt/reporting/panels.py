"""Panels of a figure: lines as series of points, what goes across, and as many figures as pages take."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from softprompt.reporting.numbers import drawn_numbers
from softprompt.reporting.parts import Figure, Level, Panel, Point, Series
from softprompt.studies import Line

__all__ = ["MOST_PANELS", "as_series", "grouped", "majority_level", "mean_point", "on_pages"]

MOST_PANELS = 6
"""Of a figure that fits on a page; of more, there are several figures."""
_MAJORITY = "most frequent answer"


def on_pages(
    name: str,
    title: str,
    note: str,
    x_label: str,
    panels: Sequence[Panel],
    *,
    joined: bool,
    log: bool,
    ablation: bool = False,
) -> list[Figure]:
    """As many figures as the panels need."""
    parts = [panels[start : start + MOST_PANELS] for start in range(0, len(panels), MOST_PANELS)]
    several = len(parts) > 1
    return [
        Figure(
            name=f"{name}_{number}" if several else name,
            title=f"{title} ({number} of {len(parts)})" if several else title,
            note=note,
            x_label=x_label,
            panels=tuple(part),
            joined=joined,
            log=log,
            numbers=drawn_numbers(part, x_label),
            ablation=ablation,
        )
        for number, part in enumerate(parts, 1)
    ]


def as_series(
    lines: Iterable[Line],
    x: Callable[[Line], float | str],
    label: Callable[[Line], str],
    state: Callable[[Line], str] | None = None,
) -> tuple[Series, ...]:
    """Lines of one label and state as a series, from left to right where x is a number."""
    found = []
    for (name, kind), own in grouped(lines, lambda line: (label(line), state(line) if state else "")):
        points = [mean_point(x(line), line.scores) for line in own]
        if all(isinstance(point.x, int | float) for point in points):
            points.sort(key=lambda point: point.x)
        found.append(Series(label=name, points=tuple(points), state=kind))
    return tuple(found)


def mean_point(x: float | str, scores: Sequence[float]) -> Point:
    """Mean and standard deviation of scores, of which there is at least one."""
    deviation = statistics.stdev(scores) if len(scores) > 1 else None
    return Point(x, statistics.fmean(scores), deviation, len(scores))


def majority_level(lines: Sequence[Line]) -> tuple[Level, ...]:
    """What the most frequent training answer scores; where draws of training rows differ in it, the highest."""
    known = [line.majority for line in lines if line.majority is not None]
    return (Level(_MAJORITY, max(known)),) if known else ()


def grouped(lines: Iterable[Line], key: Callable[[Line], Any]) -> Iterator[tuple[Any, list[Line]]]:
    """Lines that share a key, in the order in which the keys come."""
    groups: dict[Any, list[Line]] = {}
    for line in lines:
        groups.setdefault(key(line), []).append(line)
    return iter(groups.items())
