"""Ensembles of prompts beside the prompts that they are made of."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from softprompt.reporting.panels import mean_point
from softprompt.reporting.parts import Series
from softprompt.reporting.wording import labelled
from softprompt.studies import Grid, Line
from softprompt.studies.cells import ENSEMBLE

__all__ = ["ensemble_series"]

Row = Mapping[str, Any]


def ensemble_series(grid: Grid, lines: Sequence[Line], rows: Sequence[Row]) -> tuple[Series, ...]:
    """For each ensemble: its members' mean, the best of them, and what they say together, over its draws.

    Args:
        grid: That the lines are of.
        lines: Of one task and one backbone.
        rows: Of the results table: members may have seeds that no line has.
    """
    found = []
    for line in lines:
        settings = {**grid.settings(line.task, line.method), **line.axes}
        if settings["method"] != ENSEMBLE:
            continue
        apart = _member_scores(grid, line, [one for one in lines if one.method == settings["of"]], rows)
        draws = _draws(line, apart, int(settings["members"]))
        if draws:
            means, best, together = zip(*draws, strict=True)
            points = (
                mean_point("mean of members", means),
                mean_point("best member", best),
                mean_point("ensemble", together),
            )
            found.append(Series(label=labelled(line), points=points))
    return tuple(found)


def _draws(line: Line, apart: Mapping[int, float], members: int) -> list[tuple[float, float, float]]:
    """By draw, the members' mean and best, and the ensemble; those whose members were all run.

    The draw of a number has the seeds that follow on those of the draw before.
    """
    draws = []
    for seed, together in line.by_seed().items():
        seeds = range(seed * members, (seed + 1) * members)
        if all(one in apart for one in seeds):
            own = [apart[one] for one in seeds]
            draws.append((statistics.fmean(own), max(own), together))
    return draws


def _member_scores(grid: Grid, line: Line, of: Sequence[Line], rows: Sequence[Row]) -> dict[int, float]:
    """Scores by seed of what the members are: with the chosen values, and those of the axes that both have.

    Args:
        grid: That the lines are of.
        line: The ensemble's.
        of: Lines of the method of its members.
        rows: Of the results table.
    """
    for other in of:
        if all(line.axes.get(name, value) == value for name, value in other.axes.items()):
            has = {"backbone": line.backbone, "task": line.task, "label": other.method, **other.axes, **other.chosen}
            score = f"{grid.split}_{other.metric}"
            return {
                row["seed"]: row[score]
                for row in rows
                if score in row and all(row.get(name) == value for name, value in has.items())
            }
    return {}
