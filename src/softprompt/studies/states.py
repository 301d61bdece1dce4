"""Which state of a model and of its data the rows of a study are of: that which a run met last.

A folder may hold rows of several states: weights or files changed, and perhaps changed back.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from softprompt.studies.cells import Cell, digest
from softprompt.studies.grid import Grid
from softprompt.studies.task_settings import without_paths

__all__ = ["State", "last_states", "place_of", "state_of"]

State = tuple[str, str]
"""Digests of a backbone and of a task's data."""


def place_of(grid: Grid, backbone: str, task: str) -> str:
    """What a state is noted under: a backbone as the grid loads it, and a task as the grid says it.

    Args:
        grid: What is compared.
        backbone: One of its backbones.
        task: The label of one of its tasks.
    """
    return digest([backbone, grid.loading, task, without_paths(grid.tasks[task]), grid.split])


def state_of(row: Mapping[str, Any]) -> State:
    """The state that a row of a results table is of."""
    return row["backbone_digest"], row["task_digest"]


def last_states(
    grid: Grid, cells: Iterable[Cell], rows: Iterable[Mapping[str, Any]], noted: Mapping[str, State]
) -> dict[str, State]:
    """By cell, the state whose row counts: that which was noted, or else that of the last row of its kind.

    Args:
        grid: What was asked for.
        cells: Its cells.
        rows: Of a results table, in its order; those of no cell of the grid say nothing of its state.
        noted: By place, what a run met last.
    """
    pairs = itertools.product(grid.backbones, grid.tasks)
    places = {(backbone, task): place_of(grid, backbone, task) for backbone, task in pairs}
    own = {cell.identity: places[cell.backbone, cell.task] for cell in cells}
    seen = {own[row["cell"]]: state_of(row) for row in rows if row["cell"] in own}
    states = {**seen, **noted}
    return {identity: states[place] for identity, place in own.items() if place in states}
