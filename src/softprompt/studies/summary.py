"""From a results table to lines: what is tuned chosen on validation, the reported score as mean and deviation."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

from softprompt.studies.grid import TESTED_ON, Cell, Grid
from softprompt.studies.measures import MEASURED, OF_MEMBERS
from softprompt.studies.outcomes import OUTCOMES, RowErrors, kept_errors
from softprompt.studies.rows import ON
from softprompt.studies.states import State, last_states, state_of

__all__ = ["Line", "summarise", "wanted"]

Row = Mapping[str, Any]

_WIDTH = 2 * statistics.NormalDist().inv_cdf(0.975)
"""Of a score's 95 % interval, in standard errors."""


@final
@dataclass(frozen=True, kw_only=True)
class Line:
    """A method on a task and a backbone.

    Attributes:
        backbone: The backbone's name.
        backbone_parameters: Its parameters.
        adapted_steps: Its steps of adaptation to language modelling; None where its card does not tell.
        task: The task's label.
        method: The method's label.
        axes: The values of the grid's other axes.
        metric: The metric that was watched and is reported.
        chosen: The values of what was tuned; empty if none finished for every seed that tunes.
        scores: Reported scores in percent, one for each seed that finished.
        seeds: Of the scores, in their order.
        keys: Of the rows of the scores, in their order.
        elsewhere: By label, the same on the further tasks that the task is tested on; those left out have none.
        seeds_elsewhere: By label, the seeds of these, in their order.
        errors: By label, None for the task itself, and by seed the standard error of a score as its rows were drawn;
            scores without an interval have none.
        row_errors: The same row by row; of an ensemble also of its members' scores, as `measured` has them. Rows of
            older versions have none.
        measured: By the name of what was measured of the prompts, the value by seed; empty of what is no prompt.
        majority: The score of the most frequent training answer.
        parameters: Values that were learned and are stored.
        trained: Values that training changed, those of a reparameterisation included.
        stored_bytes: Of the files that hold what was learned.
        seconds_per_step: Mean over the reported runs of their session's time per step of one run, evaluations included.
        step_seconds: The same without evaluations; None of rows of older versions.
        peak_memory_bytes: The most that was held in a reported run's session, the backbone and all else included.
        session_memory_bytes: The most that a reported run's session took besides; None of rows of older versions.
        session_runs: The most runs that shared a reported run's session, and so its time and memory.
        unsupported: Why the method, or that of a seed, is none for this backbone; empty if it is one.
        failed: Runs that came to nothing, whatever their values.
        lost: Among these, those that were not trained as what they need was not learned; by the reason, how many.
        missing: Runs that are still to come, as far as is known: what is chosen may be run with further seeds.
    """

    backbone: str
    backbone_parameters: int | None
    adapted_steps: int | None
    task: str
    method: str
    axes: Mapping[str, Any]
    metric: str
    chosen: Mapping[str, Any]
    scores: tuple[float, ...]
    seeds: tuple[int, ...]
    keys: tuple[str, ...]
    elsewhere: Mapping[str, tuple[float, ...]]
    seeds_elsewhere: Mapping[str, tuple[int, ...]]
    errors: Mapping[str | None, Mapping[int, float]]
    row_errors: Mapping[str | None, Mapping[int, RowErrors]]
    measured: Mapping[str, Mapping[int, float]]
    majority: float | None
    parameters: int | None
    trained: int | None
    stored_bytes: int | None
    seconds_per_step: float | None
    step_seconds: float | None
    peak_memory_bytes: int | None
    session_memory_bytes: int | None
    session_runs: int | None
    unsupported: str
    failed: int
    lost: Mapping[str, int]
    missing: int

    @property
    def mean(self) -> float | None:
        """Mean of the scores; None without any."""
        return statistics.fmean(self.scores) if self.scores else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation over seeds (of the sample); None with fewer than two."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    def by_seed(self, on: str | None = None) -> dict[int, float]:
        """Its scores by seed, so that those of two lines can be paired.

        Args:
            on: The label of a further task; None for the line's own. One that was left out has none.
        """
        if on is None:
            return dict(zip(self.seeds, self.scores, strict=True))
        return dict(zip(self.seeds_elsewhere.get(on, ()), self.elsewhere.get(on, ()), strict=True))


@final
@dataclass(frozen=True)
class _Compared:
    """The cells of a line, by the values of what is tuned."""

    candidates: dict[tuple[Any, ...], list[Cell]]

    @property
    def first(self) -> Cell:
        """Any of them."""
        return next(iter(self.candidates.values()))[0]


def wanted(grid: Grid, rows: Iterable[Row]) -> list[Cell]:
    """The cells that are to be run, as far as the rows tell: all values for `tune_seeds`, then the chosen ones.

    Args:
        grid: What was asked for.
        rows: Of a results table, in its order.
    """
    lines = _compared(grid)
    return _asked(grid, lines, _by_cell(grid, lines, rows, {}))


def summarise(grid: Grid, rows: Iterable[Row], states: Mapping[str, State] | None = None) -> list[Line]:
    """One line per backbone, task, method and axis that is not tuned.

    A value of what is tuned is chosen once all of them were run with every seed of `tune_seeds`: that with the
    highest mean of the watched metric on validation, among those that never failed.

    Args:
        grid: What was asked for; rows that belong to none of its cells are left out.
        rows: Of a results table, in its order.
        states: Of models and data, as `StudyFolder.states` has them: rows of other states are left out. Where none is
            noted, the last row of a backbone and a task says which state counts.
    """
    lines = _compared(grid)
    found = _by_cell(grid, lines, rows, states or {})
    asked = {cell.identity for cell in _asked(grid, lines, found)}
    return [_line(grid, line, found, asked) for line in lines]


def _by_cell(grid: Grid, lines: Iterable[_Compared], rows: Iterable[Row], noted: Mapping[str, State]) -> dict[str, Row]:
    """Rows by cell, of the state of its backbone and its task that counts."""
    several = list(rows)
    cells = [cell for line in lines for candidates in line.candidates.values() for cell in candidates]
    states = last_states(grid, cells, several, noted)
    return {row["cell"]: row for row in several if states.get(row["cell"]) == state_of(row)}


def _asked(grid: Grid, lines: Iterable[_Compared], found: Mapping[str, Row]) -> list[Cell]:
    asked = []
    for line in lines:
        chosen = _choose(grid, line, found)
        for tuned, cells in line.candidates.items():
            asked += [cell for cell in cells if tuned == chosen or _tunes(grid, cell)]
    return asked


def _tunes(grid: Grid, cell: Cell) -> bool:
    return grid.tune_seeds is None or cell.seed in grid.tune_seeds


def _compared(grid: Grid) -> list[_Compared]:
    lines: dict[tuple[Any, ...], _Compared] = {}
    for cell in grid.cells():
        free = {key: value for key, value in cell.settings.items() if key not in grid.tune}
        tuned = _plain({key: value for key, value in cell.settings.items() if key in grid.tune})
        line = lines.setdefault((cell.backbone, cell.task, cell.method, *_plain(free)), _Compared({}))
        line.candidates.setdefault(tuned, []).append(cell)
    return list(lines.values())


def _choose(grid: Grid, line: _Compared, found: Mapping[str, Row]) -> tuple[Any, ...] | None:
    """The values with the best validation score, once all were run with every seed that tunes; None if all failed."""
    scores = {}
    for tuned, cells in line.candidates.items():
        rows = [found.get(cell.identity) for cell in cells if _tunes(grid, cell)]
        known = [row for row in rows if row is not None]
        if len(known) < len(rows):
            return None
        if all(_has_score(row) for row in known):
            scores[tuned] = statistics.fmean(row[f"validation_{row['metric']}"] for row in known)
    return max(scores, key=scores.__getitem__) if scores else None


def _line(
    grid: Grid,
    line: _Compared,
    found: Mapping[str, Row],
    asked: set[str],
) -> Line:
    cells = [cell for several in line.candidates.values() for cell in several]
    known = [found[cell.identity] for cell in cells if cell.identity in found]
    chosen = _choose(grid, line, found)
    reported = [
        row
        for cell in (line.candidates[chosen] if chosen is not None else ())
        if (row := found.get(cell.identity)) is not None and _has_score(row)
    ]
    metric = known[0]["metric"] if known else ""
    elsewhere = {
        label: scores
        for label in grid.tasks[line.first.task].get(TESTED_ON) or {}
        if (scores := {row["seed"]: row[name] for row in reported if (name := f"{ON}{label}_{metric}") in row})
    }
    return Line(
        backbone=line.first.backbone,
        backbone_parameters=known[0]["backbone_parameters"] if known else None,
        adapted_steps=_over(max, known, "backbone_adapted_steps"),
        task=line.first.task,
        method=line.first.method,
        axes={name: line.first.settings[name] for name in grid.axes(line.first.task, line.first.method)},
        metric=metric,
        chosen=dict(chosen or ()),
        scores=tuple(row[f"{grid.split}_{metric}"] for row in reported),
        seeds=tuple(row["seed"] for row in reported),
        keys=tuple(row["key"] for row in reported),
        elsewhere={label: tuple(scores.values()) for label, scores in elsewhere.items()},
        seeds_elsewhere={label: tuple(scores) for label, scores in elsewhere.items()},
        errors={
            None: _errors(reported, f"{grid.split}_{metric}"),
            **{label: _errors(reported, f"{ON}{label}_{metric}") for label in elsewhere},
        },
        row_errors={
            None: _row_errors(reported, grid.split),
            **{label: _row_errors(reported, f"{ON}{label}") for label in elsewhere},
            **{measured: _row_errors(reported, f"{MEASURED}{measured}") for measured in OF_MEMBERS},
        },
        measured=_measured(reported),
        majority=reported[0][f"{grid.split}_majority"] if reported else None,
        parameters=reported[0]["parameters"] if reported else None,
        trained=reported[0].get("trained") if reported else None,
        stored_bytes=reported[0].get("stored_bytes") if reported else None,
        seconds_per_step=_over(statistics.fmean, reported, "seconds_per_step"),
        step_seconds=_over(statistics.fmean, reported, "step_seconds"),
        peak_memory_bytes=_over(max, reported, "peak_memory_bytes"),
        session_memory_bytes=_over(max, reported, "session_memory_bytes"),
        session_runs=_over(max, reported, "session_runs"),
        unsupported=next((row["reason"] for row in known if row["status"] == "unsupported"), ""),
        failed=sum(row["status"] == "failed" for row in known),
        lost=Counter(row["reason"] for row in known if row["status"] == "failed" and "session_runs" not in row),
        missing=sum(cell.identity in asked and cell.identity not in found for cell in cells),
    )


def _errors(rows: Iterable[Row], score: str) -> dict[int, float]:
    return {row["seed"]: (row[f"{score}_high"] - row[f"{score}_low"]) / _WIDTH for row in rows if f"{score}_low" in row}


def _row_errors(rows: Iterable[Row], reported: str) -> dict[int, RowErrors]:
    kept = {row["seed"]: kept_errors(row.get(OUTCOMES, {}).get(reported)) for row in rows}
    return {seed: errors for seed, errors in kept.items() if errors is not None}


def _measured(rows: Iterable[Row]) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, value in row.items():
            if name.startswith(MEASURED) and isinstance(value, float):
                found.setdefault(name.removeprefix(MEASURED), {})[row["seed"]] = value
    return found


def _has_score(row: Row) -> bool:
    return row["status"] not in ("failed", "unsupported")


def _over(fold: Callable[[list[Any]], Any], rows: Iterable[Row], name: str) -> Any:
    """A value of several rows in one; None if none of them has it."""
    values = [row[name] for row in rows if row.get(name) is not None]
    return fold(values) if values else None


def _plain(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted(settings.items()))
