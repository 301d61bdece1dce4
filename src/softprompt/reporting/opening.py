"""A study's folder, opened: its grid, its rows, its lines and what they say of its claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from softprompt.errors import ConfigError, DataError
from softprompt.studies import (
    Grid,
    Line,
    ResultsTable,
    StudyFolder,
    Verdict,
    judge,
    load_grid,
    named_grids,
    summarise,
)
from softprompt.studies.folder import STUDY
from softprompt.studies.needs import own_rows
from softprompt.studies.states import State

__all__ = ["Study", "open_study"]

_RESULTS = "results.jsonl"


@final
@dataclass(frozen=True, kw_only=True)
class Study:
    """What a report is made of.

    Attributes:
        folder: Where its results lie, as it was given.
        grid: What was asked for.
        grid_name: What `--grid` calls it.
        rows: Of the results table, those of the study's own cells or not.
        lines: Of the grid; behind them those of further backbones that the table has rows of.
        verdicts: On the grid's claims.
        foreign: Rows that no line, and nothing that a line needs, is made of.
    """

    folder: Path
    grid: Grid
    grid_name: str
    rows: tuple[Mapping[str, Any], ...]
    lines: tuple[Line, ...]
    verdicts: tuple[Verdict, ...]
    foreign: tuple[Mapping[str, Any], ...]

    @property
    def last(self) -> str:
        """The day on which the last run ended; empty if no row says."""
        return max((str(row["finished"])[:10] for row in self.rows if row.get("finished")), default="")


def open_study(folder: str | Path, grid: str | None = None) -> Study:
    """Read a study's results, and hold its claims to them.

    Args:
        folder: Holds `results.jsonl`, and mostly `study.yaml`.
        grid: A YAML file, or the name of a grid that comes with softprompt. None takes `study.yaml`, or the grid that
            the rows name.

    Raises:
        DataError: If there are no results, or a line is no row.
        ConfigError: If the grid is not known, or cannot be read.
    """
    folder = Path(folder)
    file = folder / _RESULTS
    if not file.is_file():
        raise DataError(f"{folder} has no {_RESULTS}; give the folder that `softprompt study` wrote to.")
    rows = tuple(ResultsTable(file))
    if not rows:
        raise DataError(f"{file} has no rows; run the study first.")
    name = grid or _grid_of(folder, rows)
    asked = load_grid(name)
    lines = _lines(asked, rows, StudyFolder(folder).states())
    verdicts = tuple(judge(asked, lines))
    return Study(
        folder=folder,
        grid=asked,
        grid_name=name,
        rows=rows,
        lines=lines,
        verdicts=verdicts,
        foreign=_foreign(asked, lines, rows),
    )


def _grid_of(folder: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    if (folder / STUDY).is_file():
        return str(folder / STUDY)
    name = str(rows[-1].get("study"))
    if name not in named_grids():
        raise ConfigError(f"{folder} has no {STUDY}, and no grid {name!r} comes with softprompt; give --grid FILE.")
    return name


def _lines(grid: Grid, rows: Sequence[Mapping[str, Any]], states: Mapping[str, State]) -> tuple[Line, ...]:
    """The grid's lines; of backbones that the study was given beside the grid's, those that were run."""
    found = summarise(grid, rows, states)
    others = [name for name in dict.fromkeys(row["backbone"] for row in rows) if name not in grid.backbones]
    if others:
        found += [line for line in summarise(grid.narrowed(backbones=others), rows, states) if line.metric]
    if not any(line.metric for line in found):
        raise ConfigError(
            f"No row of the table is of a cell of the grid {grid.name!r}; give the grid that it was run with (--grid)."
        )
    return tuple(found)


def _foreign(grid: Grid, lines: Sequence[Line], rows: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """The rows of no cell of the grid, on its own backbones and on the others that there are lines of."""
    wide = grid.narrowed(backbones=list(dict.fromkeys((*grid.backbones, *(line.backbone for line in lines)))))
    own = {row["key"] for row in own_rows(wide, rows)}
    return tuple(row for row in rows if row["key"] not in own)
