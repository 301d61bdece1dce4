"""From the lines of a study to what is drawn; which figures there are follows from the grid's axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from softprompt.reporting.members import ensemble_series
from softprompt.reporting.panels import (
    MOST_PANELS,
    as_series,
    grouped,
    majority_level,
    mean_point,
    on_pages,
)
from softprompt.reporting.parts import Figure, Level, Panel, Series
from softprompt.reporting.wording import labelled, short_count, value_text
from softprompt.studies import Grid, Line
from softprompt.studies.families import family_of

__all__ = ["plan_figures"]

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
_LEAST_STATES = 3
"""So many states of one size are drawn against the steps of their adaptation."""
_BARS = "Means over seeds; bars are their standard deviations."


def plan_figures(grid: Grid, lines: Sequence[Line], rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """What is worth drawing of a study, in the order of the papers.

    Scores against size, where a family has several sizes; its states, where sizes meet, against steps of adaptation
    where a size has several of them; each axis of the grid; trained values, where there are several methods; other
    domains; ensembles beside their members.

    Args:
        grid: That the lines are of.
        lines: Of `summarise`; those without scores are left out.
        rows: Of the results table.
    """
    scored = [line for line in lines if line.scores]
    axes = dict.fromkeys(name for line in scored for name in line.axes)
    adapted = _adapted(scored)
    states = [line for line in scored if line not in adapted]
    figures = [
        *_sizes(scored),
        *_adaptation(adapted),
        *_states(states),
        *_costs(scored),
        *_domains(scored),
        *_ensembles(grid, scored, rows),
    ]
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
            series=as_series(own, _parameters, labelled, (lambda line: family_of(line.backbone)) if several else None),
            levels=majority_level(own),
        )
        for task, own in grouped(lines, lambda line: line.task)
    ]
    return on_pages(
        "score_against_size",
        "Score against the size of the backbone",
        f"{_BARS} Backbones whose names differ in their size alone are joined.",
        "parameters of the backbone",
        panels,
        joined=True,
        log=True,
    )


def _adapted(lines: Sequence[Line]) -> list[Line]:
    """Lines of backbones of one size in several known states of adaptation."""
    states: dict[int | None, set[int]] = {}
    for line in lines:
        if line.adapted_steps is not None:
            states.setdefault(line.backbone_parameters, set()).add(line.adapted_steps)
    several = {size for size, steps in states.items() if len(steps) >= _LEAST_STATES}
    return [line for line in lines if line.adapted_steps is not None and line.backbone_parameters in several]


def _adaptation(lines: Sequence[Line]) -> list[Figure]:
    panels = [
        Panel(
            title=f"{task}: {short_count(size or 0)} parameters",
            y_label=own[0].metric,
            series=as_series(own, lambda line: line.adapted_steps or 0, labelled),
            levels=majority_level(own),
        )
        for (task, size), own in grouped(lines, lambda line: (line.task, line.backbone_parameters))
    ]
    return on_pages(
        "adaptation",
        "Score against adaptation to language modelling",
        f"{_BARS} At 0 steps a backbone is as its first pre-training left it.",
        "steps of adaptation",
        panels,
        joined=True,
        log=False,
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
            series=as_series(own, _parameters, lambda line: family_of(line.backbone)),
            levels=majority_level(own),
        )
        for (task, method), own in grouped(
            [line for line in lines if family_of(line.backbone) in meeting], lambda line: (line.task, labelled(line))
        )
        if len({family_of(line.backbone) for line in own}) > 1
    ]
    return on_pages(
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
    for place, own in grouped(trained, lambda line: (line.task, line.backbone) if apart else (line.task,)):
        here = [line for line in lines if (line.task, line.backbone)[: len(place)] == place]
        untrained = [Level(labelled(line), line.mean or 0.0) for line in here if line.trained == 0] if apart else []
        series = as_series(own, lambda line: line.trained or 0, labelled, None if apart else lambda line: line.backbone)
        levels = (*majority_level(own), *untrained)
        panels.append(Panel(title=": ".join(place), y_label=own[0].metric, series=series, levels=levels))
    return on_pages(
        "score_against_trained",
        "Score against the number of trained values",
        f"{_BARS} The axis is logarithmic.",
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
    for (task, backbone), own in grouped(varied, lambda line: (line.task, line.backbone)):
        fixed = [line for line in lines if (line.task, line.backbone) == (task, backbone) and axis not in line.axes]
        levels = [Level(labelled(line), line.mean or 0.0) for line in fixed]
        series = as_series(
            own,
            lambda line: line.axes[axis] if numeric else value_text(line.axes[axis]),
            lambda line: labelled(line, without=axis),
        )
        panels.append(
            Panel(
                title=f"{task}: {backbone}",
                y_label=own[0].metric,
                series=series,
                levels=(*majority_level(own), *levels),
            )
        )
    return on_pages(
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
    for (task, backbone), own in grouped(
        [line for line in lines if line.elsewhere], lambda line: (line.task, line.backbone)
    ):
        series = tuple(
            Series(
                label=labelled(line),
                points=tuple(
                    mean_point(where, scores)
                    for where, scores in {f"{task} (own)": line.scores, **line.elsewhere}.items()
                    if scores
                ),
            )
            for line in own
        )
        panels.append(Panel(title=f"trained on {task}: {backbone}", y_label=own[0].metric, series=series, levels=()))
    return on_pages(
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
    for (task, backbone), own in grouped(lines, lambda line: (line.task, line.backbone)):
        if series := ensemble_series(grid, own, rows):
            panels.append(
                Panel(title=f"{task}: {backbone}", y_label=own[0].metric, series=series, levels=majority_level(own))
            )
    return on_pages(
        "ensembles",
        "Prompts together and apart",
        "Means over draws of members; bars are their standard deviations. The best member is the one with the highest"
        " reported score, which nobody knows beforehand.",
        "who answers",
        panels,
        joined=False,
        log=False,
    )


def _parameters(line: Line) -> float:
    return line.backbone_parameters or 0


def _families(lines: Iterable[Line]) -> Mapping[str, set[int]]:
    """Sizes by family."""
    families: dict[str, set[int]] = {}
    for line in lines:
        if line.backbone_parameters:
            families.setdefault(family_of(line.backbone), set()).add(line.backbone_parameters)
    return families
