"""Running a grid: cells that are not in the table yet, packed into sessions that share a backbone.

A session that was interrupted is finished first, from its checkpoint; its runs enter the table once they are scored.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.errors import ConfigError, LengthError, MissingDependencyError, NonFiniteError, UnsupportedError
from softprompt.evaluation import Evaluation, evaluate_many
from softprompt.inference import BatchLimits
from softprompt.inference.queries import encode_to_generate, encode_to_rank
from softprompt.prompts import SoftPrompt
from softprompt.studies.grid import Cell, Grid, digest
from softprompt.studies.reading import Other, read_others, read_task
from softprompt.studies.rows import Planned, refused_row, trained_row, untrained_row
from softprompt.studies.summary import wanted
from softprompt.studies.table import ResultsTable
from softprompt.studies.traces import reset_memory, traces
from softprompt.tasks import Task, get_scorer
from softprompt.training import RunResult, TrainConfig, WeightMethod, train
from softprompt.training.suitability import check_suits

__all__ = ["run_grid"]

_CELLS = "cells.json"


def run_grid(
    grid: Grid,
    output_dir: str | Path,
    *,
    device: str = "auto",
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> ResultsTable:
    """Run every cell of a grid that has no row yet.

    Args:
        grid: What to compare.
        output_dir: Holds `results.jsonl`, and the sessions that are not finished.
        device: Where to compute.
        say: Told how far it is.

    Returns:
        The table, rows of earlier calls included.

    Raises:
        ConfigError: If the grid names something unknown.
        TrainingInterrupted: After Ctrl-C or SIGTERM; the same call goes on.
    """
    folder = Path(output_dir)
    table = ResultsTable(folder / "results.jsonl")
    tasks = {label: read_task(label, settings) for label, settings in grid.tasks.items()}
    others = {label: read_others(label, settings, grid.split, say=say) for label, settings in grid.tasks.items()}
    for cell in grid.cells():  # what cannot run is met now, not after hours
        _check(grid, cell, tasks[cell.task], others[cell.task])
    digests = {label: _task_digest(task, others[label]) for label, task in tasks.items()}
    for name in grid.backbones:
        backbone = Backbone.from_pretrained(name, **{"device": device, "dtype": "float32", **grid.loading})
        own = digest({**backbone.fingerprint.to_mapping(), **({"loading": grid.loading} if grid.loading else {})})
        done = -1
        while done < len(table):  # what is chosen by the first runs is run again with further seeds
            done = len(table)
            known = [row for row in table if row["backbone_digest"] == own]
            known = [row for row in known if row["task_digest"] == digests.get(row["task"])]
            asked = [cell for cell in wanted(grid, known) if cell.backbone == name]
            planned = [_plan(cell, tasks[cell.task], others[cell.task], own, digests[cell.task]) for cell in asked]
            _run_planned(grid, backbone, planned, table, say)
    return table


def _check(grid: Grid, cell: Cell, task: Task, others: Mapping[str, Other]) -> None:
    """Refuse a cell that could not be trained, scored or compared.

    Raises:
        ConfigError: If a setting cannot be used, the task lacks the split to report on, or nothing is evaluated.
    """
    if cell.is_untrained:
        cell.text_prompt(task)
    elif cell.run("check", task).evaluate_every == 0:
        raise ConfigError(
            f"{cell.method!r} with evaluate_every=0 has no validation score to be chosen by; leave it out."
        )
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


def _plan(cell: Cell, task: Task, others: Mapping[str, Other], backbone_digest: str, task_digest: str) -> Planned:
    key = cell.key(backbone_digest, task_digest)
    return Planned(cell, task, others, backbone_digest, task_digest, key)


def _run_planned(
    grid: Grid, backbone: Backbone, cells: Sequence[Planned], table: ResultsTable, say: Callable[[str], None]
) -> None:
    """Run those cells of a backbone that have no row yet."""
    planned = {one.key: one for one in cells}
    done = sum(key in table for key in planned)
    say(f"{backbone.name}: {done} of {len(planned)} runs are in {table.path}.")
    for one in planned.values():
        if one.key in table:
            continue
        if refusal := _refusal(grid, backbone, one):
            table.append(refused_row(grid, backbone, one, refusal))
        elif one.cell.is_untrained:
            table.append(untrained_row(grid, backbone, one))
    folder = table.path.parent / "sessions"
    sessions = _pack(grid, planned, table, folder)
    for number, session in enumerate(sessions, 1):
        say(f"{backbone.name}: session {number} of {len(sessions)}, {len(session)} run{'s' * (len(session) > 1)}.")
        _run_session(grid, backbone, session, folder, table)


def _refusal(grid: Grid, backbone: Backbone, one: Planned) -> str | None:
    """Why a method is none for this backbone or task, or None if it is one.

    Whatever it would be scored on is tokenized: an input that is too long for it is met now, not after the training.

    Raises:
        LengthError: If an input is too long by itself.
    """
    ranks = one.task.labels is not None and one.cell.settings.get("by") != "generate"
    if one.cell.is_untrained and one.cell.calibrates and not ranks:
        return "calibration corrects the probabilities of labels."
    method = None if one.cell.is_untrained else one.run.method
    prompts = {}
    try:
        check_suits(backbone, method, one.task)
        if isinstance(method, WeightMethod):
            method.check(backbone.model)
        elif method is not None:
            prompts = {"": method.build(backbone, one.task, one.cell.seed)}
        model = Prompted(backbone, prompts)
    except (UnsupportedError, MissingDependencyError) as error:
        return str(error)
    jobs = [*one.jobs(grid, "" if prompts else None).values(), one.chosen_by("" if prompts else None)]
    try:
        for job in jobs:
            encode = encode_to_rank if job.evaluates_by == "rank" else encode_to_generate
            encode(model, job.queries(backbone, job.examples()))
    except LengthError as error:
        if jobs[0].text is None:
            raise
        return f"behind the words of prompt design an input is too long; take fewer shots or words. {error}"
    return None


def _pack(grid: Grid, planned: Mapping[str, Planned], table: ResultsTable, folder: Path) -> list[list[Planned]]:
    """Sessions: those that were begun as they were, then the rest in the grid's order."""
    left = {key: one for key, one in planned.items() if key not in table}
    sessions = []
    for begun in sorted(folder.glob(f"*/{_CELLS}")):
        keys = json.loads(begun.read_text(encoding="utf-8"))
        if all(key in table for key in keys):  # stopped between the last row and the folder's removal
            shutil.rmtree(begun.parent)
        elif all(key in planned for key in keys):
            sessions.append([planned[key] for key in keys])
            left = {key: one for key, one in left.items() if key not in keys}
    together: dict[Any, list[Planned]] = {}
    for one in left.values():
        if not one.alone:
            together.setdefault((one.cell.task, one.cell.method) if grid.methods_apart else None, []).append(one)
    most = grid.runs_per_session
    sessions += [several[i : i + most] for several in together.values() for i in range(0, len(several), most)]
    return sessions + [[one] for one in left.values() if one.alone]


def _run_session(grid: Grid, backbone: Backbone, session: Sequence[Planned], folder: Path, table: ResultsTable) -> None:
    """Train and score some runs, enter them into the table, and remove what only a resumption needs."""
    place = folder / digest([one.key for one in session])
    place.mkdir(parents=True, exist_ok=True)
    resumed = (place / _CELLS).is_file()
    draft = place / f".{_CELLS}"
    draft.write_text(json.dumps([one.key for one in session]), encoding="utf-8")
    draft.replace(place / _CELLS)
    reset_memory(backbone.device)
    config = TrainConfig(**{**grid.session, "output_dir": place / "session"})
    results: Mapping[str, RunResult] = {}
    seconds, reason = 0.0, ""
    try:
        results = trained = train(backbone, [one.run for one in session], config)
        seconds = trained.seconds
    except NonFiniteError as error:  # every run diverged: that is a result too
        reason = str(error)
    scores = _score(grid, backbone, session, results, config)
    spent = None if resumed else round(seconds, 1)  # what was spent before a stop is not known
    steps = sum(len(result.history) for result in results.values())
    shared = {
        "session_runs": len(session),
        "session_seconds": spent,
        "seconds_per_step": seconds / steps if steps and not resumed else None,
        **traces(backbone.device),
    }
    for one in session:
        if one.key not in table:
            row = trained_row(grid, backbone, one, results.get(one.run.name), scores.get(one.run.name, {}), reason)
            table.append({**row, **shared})
    shutil.rmtree(place)


def _score(
    grid: Grid,
    backbone: Backbone,
    session: Sequence[Planned],
    results: Mapping[str, RunResult],
    config: TrainConfig,
) -> dict[str, dict[str | None, Evaluation]]:
    """By run, scores of what it learned on the reported split and the further tasks; prompts in mixed batches."""
    learned = {one.run.name: results[one.run.name].learned for one in session if one.run.name in results}
    jobs = {
        (one.run.name, where): job
        for one in session
        if one.run.name in learned and results[one.run.name].status != "failed"
        for where, job in one.jobs(
            grid, one.run.name if isinstance(learned[one.run.name], SoftPrompt) else None
        ).items()
    }
    finished = {name: value for name, value in learned.items() if (name, None) in jobs}
    prompts = {name: value for name, value in finished.items() if isinstance(value, SoftPrompt)}
    tuned = [value for value in finished.values() if isinstance(value, Backbone)]
    model = Prompted(tuned[0] if tuned else backbone, prompts)
    found = evaluate_many(model, jobs, limits=BatchLimits(tokens=config.evaluation_tokens)) if jobs else {}
    scores: dict[str, dict[str | None, Evaluation]] = {}
    for (name, where), evaluation in found.items():
        scores.setdefault(name, {})[where] = evaluation
    return scores


def _task_digest(task: Task, others: Mapping[str, Other]) -> str:
    """Digest of everything that a run reads of a task, and of the tasks that it is tested on besides."""
    besides = [[label, other.split, _task_digest(other.task, {})] for label, other in others.items()]
    rows: Iterable[Any] = ((split, [(one.input, one.targets) for one in task.examples(split)]) for split in task.splits)
    groups = [task.group_of(one) for split in task.splits for one in task.examples(split)] if task.group else ()
    return digest([task.metrics, task.format.to_mapping(), list(rows), *groups, *besides])
