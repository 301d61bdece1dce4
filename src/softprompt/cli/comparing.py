"""`softprompt train --compare`: every method on one backbone and one task, from the grid `methods`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from softprompt.cli.data import FILE_FLAGS, TASK_FLAGS, read_task
from softprompt.cli.lines import print_lines
from softprompt.errors import ConfigError
from softprompt.studies import load_grid, run_grid, summarise
from softprompt.tasks import FORMAT_SETTINGS
from softprompt.training import Run, TrainConfig

__all__ = ["compare_methods"]

_GRID = "methods"
_VALIDATION_ROWS = 500
_RUN = {field.name for field in dataclasses.fields(Run)} - {
    *("name", "method", "task", "seed", "optimizer", "learning_rate"),
}
_SESSION = {field.name for field in dataclasses.fields(TrainConfig)} - {"output_dir", "resume", "trackers", "halve_at"}
_WHERE = ("backbone", "output_dir", "device", "compare", "compare_seeds")


def compare_methods(settings: Mapping[str, Any], changed: Sequence[str]) -> None:
    """Run the grid `methods` on the backbone and the task of a training, and print its table with costs.

    Args:
        settings: The flags of `softprompt train`.
        changed: Those that were given another value than their default: they win over the grid's.

    Raises:
        ConfigError: If a flag is given that a comparison does not take, or the task is no task's name or files.
    """
    for name in changed:
        if name not in (*_RUN, *_SESSION, *_WHERE, *TASK_FLAGS):
            raise ConfigError(
                f"--{name} is not for --compare, which takes settings of methods from the grid {_GRID!r} and loads the"
                " backbone in float32; drop it, or write a grid of your own for `softprompt study`."
            )
    chosen = None if settings["compare"] == "all" else settings["compare"]
    grid = load_grid(_GRID).narrowed(
        backbones=[settings["backbone"]],
        methods=[chosen] if isinstance(chosen, str) else chosen,
        seeds=settings["compare_seeds"],
    )
    run = {**grid.run, **{name: settings[name] for name in changed if name in _RUN}}
    if "warmup_steps" not in changed:
        run["warmup_steps"] = min(run["warmup_steps"], run["steps"] // 10)
    grid = dataclasses.replace(
        grid,
        tasks=_tasks(settings),
        run=run,
        session={**grid.session, **{name: settings[name] for name in changed if name in _SESSION}},
    )
    table = run_grid(grid, settings["output_dir"], device=settings["device"])
    print_lines(summarise(grid, table), grid.tune, costs=True)


def _tasks(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The task as a grid says it; without a test split, the validation split is reported on, and training rows choose.

    Label words are ranked in training, too, as the grid has it for its own tasks.

    Raises:
        ConfigError: If it is a data set of the hub.
    """
    if settings["dataset"] is not None:
        raise ConfigError("--compare takes a task's name or files; save the data set to files first.")
    task = read_task(settings)
    said = {key: settings[key] for key in (*FORMAT_SETTINGS, "metrics", "group") if settings[key]}
    said["on_bad_row"] = settings["on_bad_row"]
    if settings["task"] is not None:
        said |= {"task": settings["task"], "data_dir": settings["data_dir"]}
    else:
        said |= {split: settings[flag] for split, flag in FILE_FLAGS.items() if settings[flag] is not None}
        said["split_seed"] = settings["split_seed"]
    if "test" not in task.splits:
        units = {one.source if task.group is None else task.group_of(one) for one in task.examples("train")}
        said["validation_rows"] = min(_VALIDATION_ROWS, len(units) // 4)
    if task.labels is not None:
        said["run"] = {"loss": "rank"}
    return {task.name: said}
