"""`softprompt train --compare`: every method on one backbone and one task, from the grid `methods`."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import softprompt as sp
from softprompt.cli.data import FILE_FLAGS, TASK_FLAGS, read_task
from softprompt.cli.lines import print_lines
from softprompt.errors import ConfigError, UnsupportedError
from softprompt.prompts import registry
from softprompt.studies import Study, load_grid
from softprompt.studies.grid import TEXT_PROMPT
from softprompt.tasks import FORMAT_SETTINGS, Task
from softprompt.training import WEIGHT_METHODS, Run, TrainConfig
from softprompt.training.suitability import check_suits

__all__ = ["compare_methods"]

_GRID = "methods"
_VALIDATION_ROWS = 500
_RUN = {field.name for field in dataclasses.fields(Run)} - {
    *("name", "method", "task", "seed", "optimizer", "learning_rate"),
}
_SESSION = {field.name for field in dataclasses.fields(TrainConfig)} - {"output_dir", "resume", "trackers", "halve_at"}
_LOADING = ("dtype", "classes", "revision", "trust_remote_code", "attention", "quantize")
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
        if name not in (*_RUN, *_SESSION, *_LOADING, *_WHERE, *TASK_FLAGS):
            raise ConfigError(
                f"--{name} is not for --compare, which takes settings of methods from the grid {_GRID!r}; drop it, or"
                " write a grid of your own for `softprompt study`."
            )
    if settings["dataset"] is not None:
        raise ConfigError("--compare takes a task's name or files; save the data set to files first.")
    chosen = None if settings["compare"] == "all" else settings["compare"]
    grid = load_grid(_GRID).narrowed(
        backbones=[settings["backbone"]],
        methods=[chosen] if isinstance(chosen, str) else chosen,
        seeds=settings["compare_seeds"],
    )
    run = {**grid.run, **{name: settings[name] for name in changed if name in _RUN}}
    if "warmup_steps" not in changed:
        run["warmup_steps"] = min(run["warmup_steps"], run["steps"] // 10)
    task = read_task(settings)
    loading = {name: settings[name] for name in changed if name in _LOADING}
    grid = dataclasses.replace(
        grid,
        tasks={task.name: _as_grid_says(task, settings, changed)},
        methods=_with_heads(grid.methods, task, settings["backbone"], settings["device"], loading),
        run=run,
        session={**grid.session, **{name: settings[name] for name in changed if name in _SESSION}},
        loading={**grid.loading, **loading},
    )
    study = Study(grid, settings["output_dir"]).run(device=settings["device"])
    print_lines(study.lines, grid.tune, costs=True)


def _with_heads(
    methods: Mapping[str, Mapping[str, Any]], task: Task, name: str, device: str, loading: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    """The methods; where the backbone is an encoder without a head for the task, those that can bring one do."""
    backbone = sp.Backbone.from_pretrained(name, **{"device": device, "dtype": "float32", **loading})
    try:
        check_suits(backbone, None, task)
    except UnsupportedError:
        return {label: {**one, "head": True} if _knows_head(one["method"]) else one for label, one in methods.items()}
    return dict(methods)


def _knows_head(method: str) -> bool:
    if method == TEXT_PROMPT or method in WEIGHT_METHODS:
        return False
    return "head" in inspect.signature(registry.find(method)).parameters


def _as_grid_says(task: Task, settings: Mapping[str, Any], changed: Sequence[str]) -> dict[str, Any]:
    """A task as a grid says it; without a test split, the validation split is reported on, and training rows choose.

    Label words are ranked in training, too, as the grid has it for its own tasks, unless a loss was asked for.
    """
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
    if task.labels is not None and "loss" not in changed:
        said["run"] = {"loss": "rank"}
    return said
