"""Which cells are to be run next, and which prompts of other cells they need."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from softprompt.errors import ConfigError
from softprompt.studies.cells import Cell, Source
from softprompt.studies.grid import Grid
from softprompt.studies.sources import kept_methods, reached
from softprompt.studies.summary import summarise, wanted

__all__ = ["Learning", "find_learning", "own_rows", "wanted_cells"]

Row = Mapping[str, Any]


@final
@dataclass(frozen=True, kw_only=True)
class Learning:
    """The runs that learn the prompts which a cell needs.

    Attributes:
        asked: Those that are to be run, as far as is known: all values with the seeds that tune, then the chosen ones.
        chosen: Those whose prompts the cell takes, in the order of its seeds; empty until it is known which.
        is_over: Whether all that will be run was run: what is not there by then never comes.
    """

    asked: tuple[Cell, ...]
    chosen: tuple[Cell, ...]
    is_over: bool


def find_learning(grid: Grid, cell: Cell, rows: Iterable[Row]) -> Learning:
    """The runs that learn what a cell needs.

    Args:
        grid: What was asked for.
        cell: One of its cells, which needs something.
        rows: Of a results table, in its order.

    Raises:
        ConfigError: If no such runs have the values of the cell's axes.
    """
    several = list(rows)
    found = [_learning_of(grid, cell, source, several) for source in cell.needs]
    is_known = all(one.chosen for one in found)
    return Learning(
        asked=tuple(asked for one in found for asked in one.asked),
        chosen=tuple(chosen for one in found for chosen in one.chosen) if is_known else (),
        is_over=all(one.is_over for one in found),
    )


def _learning_of(grid: Grid, cell: Cell, source: Source, several: Sequence[Row]) -> Learning:
    part = _part(grid, cell.backbone, source)
    values = {name: cell.settings[name] for name in part.axes(source.task, source.method)}

    def is_meant(one: Cell) -> bool:
        same = (one.task, one.method) == (source.task, source.method)
        return same and all(one.settings[name] == value for name, value in values.items())

    meant = [one for one in part.cells() if is_meant(one)]
    if not meant:
        raise ConfigError(
            f"{cell.title} of the grid {grid.name!r} needs what {source.method!r} learns with {values}, which the grid"
            " does not run; give both the same values."
        )
    line = next(
        one
        for one in summarise(part, several)
        if (one.task, one.method) == (source.task, source.method) and dict(one.axes) == values
    )
    tuned = {tuple(one.settings.get(name) for name in grid.tune) for one in meant}
    is_chosen = bool(line.chosen) or len(tuned) == 1
    chosen = {
        one.seed: one
        for one in meant
        if is_chosen and all(one.settings[name] == value for name, value in line.chosen.items())
    }
    return Learning(
        asked=tuple(one for one in wanted(part, several) if is_meant(one)),
        chosen=tuple(chosen[seed] for seed in source.seeds) if chosen else (),
        is_over=line.missing == 0,
    )


def wanted_cells(grid: Grid, backbone: str, rows: Sequence[Row]) -> list[tuple[Cell, Learning | None]]:
    """The cells of a backbone that are to be run, as far as the rows tell, with those whose prompts they need.

    Args:
        grid: What was asked for.
        backbone: One of its backbones.
        rows: Of a results table, in its order.

    Returns:
        Each cell, with the runs that learn what it needs if it needs something.
    """
    found: dict[str, tuple[Cell, Learning | None]] = {}
    waiting = wanted(dataclasses.replace(grid, backbones=(backbone,)), rows)
    while waiting:
        further: list[Cell] = []
        for cell in waiting:
            identity = cell.identity
            if identity not in found:
                learning = find_learning(grid, cell, rows) if cell.needs else None
                found[identity] = cell, learning
                further += () if learning is None else learning.asked
        waiting = further
    return list(found.values())


def own_rows(grid: Grid, rows: Iterable[Row]) -> list[Row]:
    """The rows of a grid's cells, and of those whose prompts they need.

    Args:
        grid: What was asked for.
        rows: Of a results table, in its order.
    """
    several = list(rows)
    own = {cell.identity for cell in grid.cells()}
    for backbone in grid.backbones:
        own |= {cell.identity for cell, _ in wanted_cells(grid, backbone, several)}
    return [row for row in several if row["cell"] in own]


def _part(grid: Grid, backbone: str, source: Source) -> Grid:
    """The part of a grid that learns some prompts; its values are chosen as those of the whole grid."""
    kept = reached(grid, source.task, source.method)
    named = set().union(*(grid.settings(*one) for one in kept))
    tasks = {label: grid.tasks[label] for label in dict.fromkeys(task for task, _ in kept)}
    methods = {label: grid.methods[label] for label in dict.fromkeys(method for _, method in kept)}
    return dataclasses.replace(
        grid,
        backbones=(backbone,),
        tasks=tasks,
        methods=kept_methods(methods, tasks),
        seeds=tuple(dict.fromkeys((*grid.seeds, *source.seeds))),
        tune=tuple(name for name in grid.tune if name in named),
        tune_seeds=grid.tune_seeds or grid.seeds,
        claims=(),
    )
