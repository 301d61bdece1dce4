"""The tasks that a command's flags ask for: known by name, of files, or of a data set of the hub."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import softprompt as sp
from softprompt.config import choose
from softprompt.errors import ConfigError
from softprompt.prompts import PromptInfo
from softprompt.tasks import FORMAT_SETTINGS, Task, TextFormat, task_definition

__all__ = ["FILE_FLAGS", "TASK_FLAGS", "read_task", "read_tasks", "tell_formats"]

FILE_FLAGS = {"train": "train_file", "validation": "validation_file", "test": "test_file"}
_DATASET = ("subset", "splits", "dataset_revision")

TASK_FLAGS = (
    *("task", "data_dir", *FILE_FLAGS.values(), "dataset", *_DATASET, *FORMAT_SETTINGS),
    *("metrics", "group", "on_bad_row", "split_seed"),
)


def read_tasks(settings: Mapping[str, Any], trained: PromptInfo | None = None) -> list[Task]:
    """Read one task, or several by their names.

    Args:
        settings: As in `read_task`; `task` may be a list of names, and `data_dir` a folder for all of them that bring
            no data along, or a folder for each by its name.
        trained: As in `read_task`.

    Raises:
        ConfigError: As in `read_task`, or if a task is named twice, or a folder is given for none of them.
        DataError: As in `read_task`.
    """
    names, folders = settings["task"], settings["data_dir"]
    if not isinstance(names, list):
        return [read_task(settings, trained)]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"--task needs names that differ; got {names}.")
    if isinstance(folders, dict):
        for name in folders:
            if name not in names:
                raise choose("task of --data_dir", name, names)
    else:
        folders = {name: folders for name in names if task_definition(name).folder is None}
    return [read_task({**settings, "task": name, "data_dir": folders.get(name)}, trained) for name in names]


def tell_formats(tasks: Sequence[Task], prompts: Mapping[str, PromptInfo], settings: Mapping[str, Any]) -> None:
    """Tell on standard error which tasks are scored in other words than their prompts were trained in.

    A task by name is read in its own format, unless flags say another; data of one's own are in the prompt's.

    Args:
        tasks: What is scored.
        prompts: What is known of the prompts, by task.
        settings: As in `read_task`.
    """
    if any(settings[name] for name in FORMAT_SETTINGS):
        return
    for task in tasks:
        stored = prompts[task.name].format if task.name in prompts else None
        if stored is not None and TextFormat(**stored) != task.format:
            print(
                f"{task.name} is scored in its own format, not in that of the prompt, which was trained with the input "
                f"{stored['input']!r}; --input, --target and --label_words say another.",
                file=sys.stderr,
            )


def read_task(settings: Mapping[str, Any], trained: PromptInfo | None = None) -> Task:
    """Read the task, and tell on standard error what reading found.

    Args:
        settings: The flags named in `TASK_FLAGS`, among others.
        trained: What is known of a trained prompt, whose format and seed hold for data where no flag says another.

    Raises:
        ConfigError: If not exactly one of a task's name, files and a data set is given, several names are, or data
            without format.
        DataError: If data cannot be read or a row is bad.
    """
    if isinstance(settings["task"], list) or isinstance(settings["data_dir"], dict):
        raise ConfigError(
            "This takes one task and one folder; give --task NAME, and --data_dir FOLDER if it needs one."
        )
    files = {split: settings[flag] for split, flag in FILE_FLAGS.items() if settings[flag] is not None}
    if (settings["task"] is not None) + bool(files) + (settings["dataset"] is not None) != 1:
        raise ConfigError(
            "Give one of --task NAME, --train_file FILE (or another split's) and --dataset ID; data of your own need "
            "--input and --target too, unless a prompt brings them."
        )
    for flag in _DATASET:
        if settings[flag] is not None and settings["dataset"] is None:
            raise ConfigError(f"--{flag} says something of a data set, but no --dataset is given.")
    task = _read(settings, files, trained)
    print(f"Data of {task.name}:", *str(task.report).splitlines(), sep="\n  ", file=sys.stderr)
    return task


def _read(settings: Mapping[str, Any], files: Mapping[str, str], trained: PromptInfo | None) -> Task:
    if settings["task"] is not None:
        if settings["group"] is not None:
            raise ConfigError(
                f"--group is for data of your own; the task {settings['task']} says what is scored together. Drop it."
            )
        task = sp.load_task(settings["task"], settings["data_dir"], on_bad_row=settings["on_bad_row"])
        words = {key: settings[key] for key in FORMAT_SETTINGS if settings[key]}
        task = task.with_format(**words) if words else task
        return task.with_metrics(settings["metrics"]) if settings["metrics"] else task
    reading = {
        **_format(settings, trained.format if trained else None),
        "metrics": settings["metrics"],
        "group": settings["group"],
        "on_bad_row": settings["on_bad_row"],
        "split_seed": _split_seed(settings["split_seed"], trained),
    }
    if files:
        return sp.Task.from_files(**files, **reading)
    return sp.Task.from_hub(
        settings["dataset"],
        settings["subset"],
        splits=settings["splits"],
        revision=settings["dataset_revision"],
        **reading,
    )


def _split_seed(given: int | None, trained: PromptInfo | None) -> int:
    """The seed that is given, or the one by which a prompt's data were split, or 0."""
    if given is not None:
        return given
    data = (trained.run or {}).get("data", {}) if trained else {}
    return int(data.get("split_seed", 0))


def _format(settings: Mapping[str, Any], stored: Mapping[str, Any] | None) -> dict[str, Any]:
    given = {key: settings[key] for key in FORMAT_SETTINGS}
    if stored is not None and not any(given.values()):
        return dict(stored)
    if given["input"] is None or given["target"] is None:
        raise ConfigError('Data need templates over their columns: --input "{text}" --target "{label}".')
    return given
