"""Grids and their tasks, from YAML files and by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, final

import yaml

from softprompt.config import choose, from_mapping
from softprompt.errors import ConfigError, MissingFileError
from softprompt.studies.grid import OPTIONAL, OWN_RUN, TESTED_ON, Grid
from softprompt.studies.pairing import check_claims
from softprompt.tasks import FORMAT_SETTINGS, Task, load_task

__all__ = ["Other", "at_hand", "left_out", "load_grid", "named_grids", "read_others", "read_task"]

_OWN_TASK = (
    *("task", "data_dir", "on_bad_row", *FORMAT_SETTINGS),
    *("metrics", "validation_rows", "train_rows", "seed"),
)
_OF_TRAINING = ("validation_rows", "train_rows", "seed", TESTED_ON, OWN_RUN)


@final
@dataclass(frozen=True)
class Other:
    """A task that is scored without being trained on, and which of its splits."""

    task: Task
    split: str


def named_grids() -> tuple[str, ...]:
    """The grids that come with softprompt."""
    return tuple(sorted(file.name.removesuffix(".yaml") for file in _folder().iterdir() if file.name.endswith(".yaml")))


def load_grid(name: str | Path) -> Grid:
    """Read a grid from a YAML file, or one that comes with softprompt by its name.

    Raises:
        ConfigError: If there is none, it is no YAML mapping, a setting is unknown, or a claim compares nothing.
    """
    path = Path(name)
    if path.is_file():
        text = path.read_text(encoding="utf-8")
    elif str(name) in named_grids():
        text = (_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        raise choose("grid (nor is it a file)", str(name), named_grids())
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is no YAML: {error}") from None
    if not isinstance(found, Mapping):
        raise ConfigError(f"{name}: expected a mapping of settings of a grid; see `softprompt study --help`.")
    grid = from_mapping(Grid, {"name": path.stem, **found})
    check_claims(grid)
    return grid


def at_hand(grid: Grid, *, say: Callable[[str], None] = lambda line: None) -> Grid:
    """The same grid without the optional tasks whose files are not there.

    Args:
        grid: Whose tasks say where their files are.
        say: Told which tasks are left out, and which files they lack.

    Raises:
        ConfigError: If none is left.
        DataError: If the data of an optional task are there and cannot be read.
    """
    absent = []
    for label, settings in grid.tasks.items():
        if not settings.get(OPTIONAL):
            continue
        try:
            read_task(label, settings)
        except MissingFileError as missing:
            say(f"{label!r} is left out: {missing}")
            absent.append(label)
    if len(absent) == len(grid.tasks):
        raise ConfigError(f"None of the tasks of the grid {grid.name!r} has its files: {', '.join(absent)}.")
    return grid.narrowed(tasks=[label for label in grid.tasks if label not in absent]) if absent else grid


def left_out(grid: Grid, last_tasks: Collection[str] | None, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The optional tasks of a grid whose files were not there when it was run.

    Args:
        grid: What is asked for now.
        last_tasks: Labels of the tasks that were there when it was run last; None if it was not.
        rows: Of the results table: a task that has one was there once.
    """
    if last_tasks is None:
        return []
    there = {*last_tasks, *(row["task"] for row in rows)}
    return [label for label, settings in grid.tasks.items() if settings.get(OPTIONAL) and label not in there]


def read_task(label: str, settings: Mapping[str, Any]) -> Task:
    """The task that a grid's settings stand for.

    Raises:
        ConfigError: If a setting is unknown, or the task cannot be found.
        DataError: If its data cannot be read.
    """
    rest = {key: value for key, value in settings.items() if key not in (OPTIONAL, OWN_RUN, TESTED_ON)}
    validation_rows, train_rows, seed = (rest.pop(key, None) for key in ("validation_rows", "train_rows", "seed"))
    if "task" in rest:
        if "group" in rest:
            raise ConfigError(
                f"The task {label!r}: group is for files of your own; the task {rest['task']} says itself what is "
                "scored together. Drop it."
            )
        for key in rest:
            if key not in _OWN_TASK:
                raise choose(f"setting of the task {label!r}", key, _OWN_TASK)
        reading = {"on_bad_row": rest.pop("on_bad_row")} if "on_bad_row" in rest else {}
        task = load_task(rest.pop("task"), rest.pop("data_dir", None), **reading)
        metrics = rest.pop("metrics", None)
        if rest:
            task = task.with_format(**rest)
        if metrics:
            task = task.with_metrics(metrics)
    else:
        try:
            task = Task.from_files(**{"name": label, **rest})
        except TypeError as error:
            raise ConfigError(f"The task {label!r}: {error}") from None
    if validation_rows is not None and "test" not in task.splits:
        task = task.validated_on_train(validation_rows, seed=seed or 0)
    if train_rows is not None:
        task = task.with_train_rows(train_rows, seed=seed or 0)
    return replace(task, name=label)


def read_others(
    label: str, settings: Mapping[str, Any], split: str, *, say: Callable[[str], None] = lambda line: None
) -> dict[str, Other]:
    """The further tasks that what a task taught is scored on.

    Args:
        label: Of the task in the grid.
        settings: The task's in the grid. A further task's `split` is one, or several: the first that it has counts.
        split: The grid's, for those that name none.
        say: Told which optional ones are left out, and which files they lack.

    Raises:
        ConfigError: If a setting is unknown, or a task has no such split.
        DataError: If data cannot be read; for optional ones, if they are there.
    """
    given = settings.get(TESTED_ON) or {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"{TESTED_ON} of the task {label!r}: expected tasks by label, with their settings.")
    shared = {key: value for key, value in settings.items() if key not in (OPTIONAL, *_OF_TRAINING)}
    others = {}
    for other, own in given.items():
        for key in own or {}:
            if key in _OF_TRAINING:
                raise ConfigError(
                    f"{key} of {other!r}, which {label!r} is tested on: nothing is trained there; drop it."
                )
        rest = {**shared, **(own or {})}
        scored, optional = rest.pop("split", split), rest.pop(OPTIONAL, False)
        try:
            task = read_task(other, rest)
        except MissingFileError as missing:
            if not optional:
                raise
            say(f"{label!r} is not tested on {other!r}: {missing}")
            continue
        others[other] = Other(task, _first_split(label, task, [scored] if isinstance(scored, str) else scored))
    return others


def _first_split(label: str, task: Task, wanted: Sequence[str]) -> str:
    """The first of the wanted splits that a task has.

    Raises:
        ConfigError: If it has none of them.
    """
    for split in wanted:
        if split in task.splits:
            return split
    known = " or ".join(task.splits)
    raise ConfigError(
        f"The task {task.name!r} has no {' or '.join(wanted)} split to test {label!r} on; set its split: {known}."
    )


def _folder() -> Any:
    return files("softprompt.studies") / "named"
