"""The numbers under a plot."""

from __future__ import annotations

from collections.abc import Sequence

from softprompt.reporting.parts import Panel, Point, Series, Table
from softprompt.reporting.wording import count, short_count

__all__ = ["drawn_numbers"]

_MOST_COLUMNS = 6


def drawn_numbers(panels: Sequence[Panel], x_label: str) -> Table:
    """What is drawn: a column for each x where they are few, else a row for each point.

    Args:
        panels: Of the figure; lines across are told in the note.
        x_label: Quantity and unit of the axis.
    """
    drawn = [(panel, series) for panel in panels for series in panel.series]
    places = list(dict.fromkeys(point.x for _, series in drawn for point in series.points))
    if all(isinstance(place, int | float) for place in places):
        places.sort()
    several = any(series.state for _, series in drawn)
    head = ("panel", "series", "kind") if several else ("panel", "series")

    def names(panel: Panel, series: Series) -> tuple[str, ...]:
        own = (panel.title, series.label)
        return (*own, series.state) if several else own

    if len(places) <= _MOST_COLUMNS:
        columns = (*head, *(_place(place, short=True) for place in places))
        rows = [(*names(*one), *(_at(one[1], place) for place in places)) for one in drawn]
    else:
        columns = (*head, x_label, "score")
        rows = [(*names(*one), _place(point.x), _score(point)) for one in drawn for point in one[1].points]
    return Table(title="Numbers", columns=columns, rows=tuple(rows), note=_note(panels, x_label))


def _note(panels: Sequence[Panel], x_label: str) -> str:
    told = {panel.title: ", ".join(f"{level.label} {level.score:.1f}" for level in panel.levels) for panel in panels}
    same = len(set(told.values())) == 1
    across = told[panels[0].title] if same else "; ".join(f"{panel}: {text}" for panel, text in told.items() if text)
    return f"Mean ± standard deviation (seeds) by {x_label}." + (f" Lines across: {across}." if across else "")


def _at(series: Series, place: float | str) -> str:
    return "; ".join(_score(point) for point in series.points if point.x == place)


def _place(x: float | str, *, short: bool = False) -> str:
    if isinstance(x, str):
        return x
    return short_count(x) if short else count(x)


def _score(point: Point) -> str:
    deviation = "" if point.deviation is None else f" ± {point.deviation:.1f}"
    return f"{point.mean:.1f}{deviation} ({point.seeds})"
