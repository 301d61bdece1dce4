"""From the lines of a study to what is drawn; which figures there are follows from the grid's axes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from softprompt.reporting.members import ensemble_series
from softprompt.reporting.numbers import drawn_numbers
from softprompt.reporting.parts import Figure, Level, Panel, Point, Series
from softprompt.reporting.wording import family, labelled, value_text
from softprompt.studies import Grid, Line

__all__ = ["plan_figures"]

MOST_PANELS = 6
"""Of a figure that fits on a page; of more, there are several figures."""
_WIDE = 20
"""A range of values at least so many times its beginning is drawn on a logarithmic axis."""
_UNITS = {"length": "length (virtual tokens)", "train_rows": "training rows", "steps": "training steps"}
_TITLES = {
    "length": "Length",
    "init": "Initialisation",
    "placement": "Placement",
    "train_rows": "Training rows",
    "shots": "Examples",
}
_BARS = "Means over seeds; bars are their standard deviations."
_MAJORITY = "most frequent answer"


def plan_figures(grid: Grid, lines: Sequence[Line], rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """What is worth drawing of a study, in the order of the papers.

    Scores against size, where a family has several sizes; its states, where sizes meet; each axis of the grid;
    trained values, where there are several methods; other domains; ensembles beside their members.

    Args:
        grid: That the lines are of.
        lines: Of `summarise`; those without scores are left out.
        rows: Of the results table.
    """
    scored = [line for line in lines if line.scores]
    axes = dict.fromkeys(name for line in scored for name in line.axes)
    figures = [*_sizes(scored), *_states(scored), *_costs(scored), *_domains(scored), *_ensembles(grid, scored, rows)]
    for axis in axes:
        figures += _axis(axis, scored)
    return figures


def _sizes(lines: Sequence[Line]) -> list[Figure]:
    families = _families(lines)
    if not any(len(sizes) > 1 for sizes in families.values()):
        return []
    several = len(families) > 1
    panels = [
        Panel(
            title=task,
            y_label=own[0].metric,
            series=_series(own, _parameters, labelled, (lambda line: family(line.backbone)) if several else None),
            levels=_majority(own),
        )
        for task, own in _by(lines, lambda line: line.task)
    ]
    return _figures(
        "score_against_size",
        "Score against the size of the backbone",
        f"{_BARS} Backbones whose names differ in their size alone are joined.",
        "parameters of the backbone",
        panels,
        joined=True,
        log=True,
    )


def _states(lines: Sequence[Line]) -> list[Figure]:
    """Families that have a size in common: the same architecture in several states, such as before an adaptation."""
    families = _families(lines)
    meeting = {
        name
        for name, sizes in families.items()
        if any(sizes & others for other, others in families.items() if other != name)
    }
    panels = [
        Panel(
            title=f"{task}: {method}",
            y_label=own[0].metric,
            series=_series(own, _parameters, lambda line: family(line.backbone)),
            levels=_majority(own),
        )
        for (task, method), own in _by(
            [line for line in lines if family(line.backbone) in meeting], lambda line: (line.task, labelled(line))
        )
        if len({family(line.backbone) for line in own}) > 1
    ]
    return _figures(
        "pre_training",
        "The same sizes after different pre-training",
        _BARS,
        "parameters of the backbone",
        panels,
        joined=True,
        log=True,
    )


def _costs(lines: Sequence[Line]) -> list[Figure]:
    trained = [line for line in lines if line.trained]
    if len({labelled(line) for line in trained}) < 2:
        return []
    places = {(line.task, line.backbone) for line in trained}
    apart = len(places) <= MOST_PANELS
    panels = []
    for place, own in _by(trained, lambda line: (line.task, line.backbone) if apart else (line.task,)):
        here = [line for line in lines if (line.task, line.backbone)[: len(place)] == place]
        untrained = [Level(labelled(line), line.mean or 0.0) for line in here if line.trained == 0] if apart else []
        series = _series(own, lambda line: line.trained or 0, labelled, None if apart else lambda line: line.backbone)
        levels = (*_majority(own), *untrained)
        panels.append(Panel(title=": ".join(place), y_label=own[0].metric, series=series, levels=levels))
    return _figures(
        "score_against_trained",
        "Score against the number of trained values",
        f"{_BARS} Each step of the axis is ten times as many.",
        "trained values",
        panels,
        joined=False,
        log=True,
    )


def _axis(axis: str, lines: Sequence[Line]) -> list[Figure]:
    varied = [line for line in lines if axis in line.axes]
    numeric = all(isinstance(line.axes[axis], int | float) for line in varied)
    values = [line.axes[axis] for line in varied]
    if len({value_text(value) for value in values}) < 2:
        return []
    panels = []
    for (task, backbone), own in _by(varied, lambda line: (line.task, line.backbone)):
        fixed = [line for line in lines if (line.task, line.backbone) == (task, backbone) and axis not in line.axes]
        levels = [Level(labelled(line), line.mean or 0.0) for line in fixed]
        series = _series(
            own,
            lambda line: line.axes[axis] if numeric else value_text(line.axes[axis]),
            lambda line: labelled(line, without=axis),
        )
        panels.append(
            Panel(title=f"{task}: {backbone}", y_label=own[0].metric, series=series, levels=(*_majority(own), *levels))
        )
    return _figures(
        f"axis_{axis}",
        _TITLES.get(axis, axis),
        _BARS,
        _UNITS.get(axis, axis),
        panels,
        joined=numeric,
        log=numeric and min(values) > 0 and max(values) >= _WIDE * min(values),
        ablation=True,
    )


def _domains(lines: Sequence[Line]) -> list[Figure]:
    panels = []
    for (task, backbone), own in _by(
        [line for line in lines if line.elsewhere], lambda line: (line.task, line.backbone)
    ):
        series = tuple(
            Series(
                label=labelled(line),
                points=tuple(
                    _point(where, scores)
                    for where, scores in {f"{task} (own)": line.scores, **line.elsewhere}.items()
                    if scores
                ),
            )
            for line in own
        )
        panels.append(Panel(title=f"trained on {task}: {backbone}", y_label=own[0].metric, series=series, levels=()))
    return _figures(
        "domain_shift",
        "On the own domain and on others",
        f"{_BARS} The first place is the domain that was trained on.",
        "tested on",
        panels,
        joined=False,
        log=False,
    )


def _ensembles(grid: Grid, lines: Sequence[Line], rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    panels = []
    for (task, backbone), own in _by(lines, lambda line: (line.task, line.backbone)):
        if series := ensemble_series(grid, own, rows):
            panels.append(
                Panel(title=f"{task}: {backbone}", y_label=own[0].metric, series=series, levels=_majority(own))
            )
    return _figures(
        "ensembles",
        "Prompts together and apart",
        "Means over draws of members; bars are their standard deviations. The best member is the one with the highest"
        " reported score, which nobody knows beforehand.",
        "who answers",
        panels,
        joined=False,
        log=False,
    )


def _figures(
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


def _series(
    lines: Iterable[Line],
    x: Callable[[Line], float | str],
    label: Callable[[Line], str],
    state: Callable[[Line], str] | None = None,
) -> tuple[Series, ...]:
    """Lines of one label and state as a series, from left to right where x is a number."""
    found = []
    for (name, kind), own in _by(lines, lambda line: (label(line), state(line) if state else "")):
        points = [_point(x(line), line.scores) for line in own]
        if all(isinstance(point.x, int | float) for point in points):
            points.sort(key=lambda point: point.x)
        found.append(Series(label=name, points=tuple(points), state=kind))
    return tuple(found)


def _point(x: float | str, scores: Sequence[float]) -> Point:
    deviation = statistics.stdev(scores) if len(scores) > 1 else None
    return Point(x, statistics.fmean(scores), deviation, len(scores))


def _parameters(line: Line) -> float:
    return line.backbone_parameters or 0


def _families(lines: Iterable[Line]) -> Mapping[str, set[int]]:
    """Sizes by family."""
    families: dict[str, set[int]] = {}
    for line in lines:
        if line.backbone_parameters:
            families.setdefault(family(line.backbone), set()).add(line.backbone_parameters)
    return families


def _majority(lines: Sequence[Line]) -> tuple[Level, ...]:
    """What the most frequent training answer scores; where draws of training rows differ in it, the highest."""
    known = [line.majority for line in lines if line.majority is not None]
    return (Level(_MAJORITY, max(known)),) if known else ()


def _by(lines: Iterable[Line], key: Callable[[Line], Any]) -> Iterator[tuple[Any, list[Line]]]:
    """Lines that share a key, in the order in which the keys come."""
    groups: dict[Any, list[Line]] = {}
    for line in lines:
        groups.setdefault(key(line), []).append(line)
    return iter(groups.items())
