"""The task that a command's flags ask for: one known by name, files, or a data set of the hub."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import softprompt as sp
from softprompt.errors import ConfigError
from softprompt.tasks import Task

__all__ = ["TASK_FLAGS", "read_task"]

_FILES = {"train": "train_file", "validation": "validation_file", "test": "test_file"}
_FORMAT = ("input", "target", "label_words", "chat")

_DATASET = ("dataset", "subset", "dataset_revision")

TASK_FLAGS = ("task", "data_dir", *_FILES.values(), *_DATASET, *_FORMAT, "metrics", "on_bad_row", "split_seed")


def read_task(settings: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> Task:
    """Read the task, and tell on standard error what reading found.

    Args:
        settings: The flags named in `TASK_FLAGS`, among others.
        stored: The format that is stored with a prompt, for data whose format no flag gives.

    Raises:
        ConfigError: If not exactly one of a task's name, files and a data set is given, or data without format.
        DataError: If data cannot be read or a row is bad.
    """
    files = {split: settings[flag] for split, flag in _FILES.items() if settings[flag] is not None}
    if (settings["task"] is not None) + bool(files) + (settings["dataset"] is not None) != 1:
        raise ConfigError(
            "Give one of --task NAME, --train_file FILE (or another split's) and --dataset ID, the latter two with "
            "--input and --target."
        )
    reading = {"metrics": settings["metrics"], "on_bad_row": settings["on_bad_row"]}
    if settings["task"] is not None:
        task = sp.load_task(settings["task"], settings["data_dir"], on_bad_row=settings["on_bad_row"])
    elif files:
        form = _format(settings, stored)
        task = sp.Task.from_files(**files, **form, **reading, split_seed=settings["split_seed"])
    else:
        form = _format(settings, stored)
        task = sp.Task.from_hub(
            settings["dataset"],
            settings["subset"],
            revision=settings["dataset_revision"],
            **form,
            **reading,
            split_seed=settings["split_seed"],
        )
    print(f"Data of {task.name}:", *str(task.report).splitlines(), sep="\n  ", file=sys.stderr)
    return task


def _format(settings: Mapping[str, Any], stored: Mapping[str, Any] | None) -> dict[str, Any]:
    given = {key: settings[key] for key in _FORMAT}
    if stored is not None and not any(given.values()):
        return dict(stored)
    if given["input"] is None or given["target"] is None:
        raise ConfigError('Data need templates over their columns: --input "{text}" --target "{label}".')
    return given
