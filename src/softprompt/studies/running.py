"""Running a grid: cells that are not in the table yet, packed into sessions that share a backbone.

A session that was interrupted is finished first, from its checkpoint; its runs enter the table once they are scored.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from softprompt.backbones.launch import check_alone
from softprompt.errors import ConfigError, MissingDependencyError
from softprompt.studies.cells import Cell
from softprompt.studies.grid import Grid
from softprompt.studies.needs import find_learning, own_rows
from softprompt.studies.planning import Rounds
from softprompt.studies.quick import answerable, check_size
from softprompt.studies.reading import Other, at_hand
from softprompt.studies.table import ResultsTable
from softprompt.studies.workers import Executor, InTurn, WorkerProcesses
from softprompt.studies.workplace import Unit, Workplace
from softprompt.tasks import Task, get_scorer

__all__ = ["run_grid"]

Say = Callable[[str], None]
_TO_COME = ("what another run learns",)  # in place of the folders of prompts that are still to be made
_FACTOR = "`python -m benchmarks.packing` measures it"  # rows do not tell how long a run would have taken alone


def run_grid(
    grid: Grid,
    output_dir: str | Path,
    *,
    device: str = "auto",
    workers: int | None = None,
    ray: str | None = None,
    say: Say = lambda line: print(line, file=sys.stderr, flush=True),
) -> ResultsTable:
    """Run every cell of a grid that has no row yet.

    Args:
        grid: What to compare; optional tasks whose files are not there are left out.
        output_dir: Holds `results.jsonl`, `study.yaml` with the grid, `states.json`, and the sessions that are not
            finished.
        device: Where to compute.
        workers: Sessions at a time. Without Ray: 1, which this process runs, or else one in each of as many processes
            of this machine; a script has to call it under `if __name__ == "__main__"` then. With Ray: one on each
            GPU, or else on each machine.
        ray: Address of a Ray cluster whose workers run the sessions, as `ray.init` takes it; `"local"` starts one on
            this machine.
        say: Told how far it is.

    Returns:
        The table, rows of earlier calls included.

    Raises:
        ConfigError: If the grid names something unknown, another process runs a study in the folder, the folder holds
            runs at quick size and the grid is whole, or the reverse, or several processes were launched together.
        TrainingInterrupted: After Ctrl-C or SIGTERM; the same call goes on.
        SoftpromptError: If the processes that ran a session were killed three times.
        MissingDependencyError: If Ray is asked for and not installed.
    """
    check_alone("a study")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers={workers}: expected at least 1.")
    grid = at_hand(grid, say=say)
    workplace = Workplace(grid, output_dir, device, say)
    for cell in grid.cells():  # what cannot run is met now, not after hours
        _check(grid, cell, workplace.task(cell.task), workplace.others(cell.task))
    with workplace.folder.held():
        check_size(grid, workplace.folder)
        workplace.folder.keep(answerable(grid))
        table = ResultsTable(workplace.folder.results)
        rounds = [Rounds(workplace, name, table, say) for name in grid.backbones]
        with _executor(workplace, str(output_dir), device, workers, ray, say) as executor:
            _drive(rounds, executor)
    say(_told(grid, table))
    return table


def _executor(
    workplace: Workplace, output_dir: str, device: str, workers: int | None, ray: str | None, say: Say
) -> Executor:
    """Who does the units."""
    if ray is not None:
        try:
            from softprompt.studies.ray_tasks import RayTasks
        except ModuleNotFoundError as error:
            raise MissingDependencyError("ray needs Ray: pip install 'softprompt[ray]'") from error
        return RayTasks(workplace.grid, output_dir, device, ray, workers, say)
    if workers in (None, 1):
        return InTurn(workplace, say)
    return WorkerProcesses(workplace.grid, output_dir, device, workers, say)


@final
@dataclass
class _Course:
    """How far a backbone is.

    Attributes:
        rounds: Its rounds.
        units: Those of the rounds to come.
        left: Units of the present round that did not end.
    """

    rounds: Rounds
    units: Iterator[list[Unit]]
    left: int = 0


def _drive(rounds: Iterable[Rounds], executor: Executor) -> None:
    """Do all rounds; a backbone begins when there is room beside the ones before it."""
    waiting = deque(_Course(one, one.units()) for one in rounds)
    courses: dict[int, _Course] = {}  # by identity of the units that did not end

    def advance(course: _Course) -> None:
        units = next(course.units, [])
        course.left = len(units)
        for unit in units:
            courses[id(unit)] = course
            executor.submit(unit)

    while True:
        while waiting and executor.has_room:
            advance(waiting.popleft())
        if not courses:
            return
        unit, result = executor.next()
        course = courses.pop(id(unit))
        course.rounds.enter(unit, result)
        course.left -= 1
        if not course.left:
            advance(course)


def _check(grid: Grid, cell: Cell, task: Task, others: Mapping[str, Other]) -> None:
    """Refuse a cell that could not be trained, scored or compared.

    Raises:
        ConfigError: If a setting cannot be used, the task lacks the split to report on, or nothing is evaluated.
    """
    if cell.is_untrained:
        cell.check_untrained()
        cell.text_prompt(task)
    elif cell.run("check", task, _TO_COME if cell.needs else ()).evaluate_every == 0:
        raise ConfigError(
            f"{cell.method!r} with evaluate_every=0 has no validation score to be chosen by; leave it out."
        )
    if cell.needs:
        find_learning(grid, cell, ())
    if grid.split not in task.splits:
        raise ConfigError(
            f"The task {cell.task!r} has no {grid.split} split to report on; give it validation_rows, or the grid"
            " another split."
        )
    watched = cell.settings.get("metric") or task.watched
    for label, other in others.items():
        scores = [score for name in other.task.metrics for score in get_scorer(name).scores]
        if watched not in scores:
            raise ConfigError(
                f"{cell.task!r} is scored by {watched}, but {label!r}, which it is tested on, has {', '.join(scores)};"
                " set the metrics of one of them."
            )


def _told(grid: Grid, table: Iterable[Mapping[str, Any]]) -> str:
    """What the table knows of the cost of a grid's runs, those whose prompts it needs included."""
    rows = own_rows(grid, table)
    trained = [row for row in rows if row.get("session_runs")]
    told = f"{grid.name}: {len(rows)} runs, {len(trained)} of them trained"
    if not trained:
        return f"{told}."
    sessions = sum(1 / row["session_runs"] for row in trained)
    known = [row for row in trained if row["session_seconds"] is not None]
    seconds = sum(row["session_seconds"] / row["session_runs"] for row in known)
    stopped = f", without {len(trained) - len(known)} that were stopped on the way" if len(known) < len(trained) else ""
    return (
        f"{told} in {sessions:.0f} sessions, {len(trained) / sessions:.1f} runs in each, that took {seconds:.0f} s"
        f"{stopped}. What such sessions gain over one run at a time: {_FACTOR}."
    )
