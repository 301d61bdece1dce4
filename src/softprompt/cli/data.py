"""The task that a command's flags ask for: one known by name, or files."""

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

TASK_FLAGS = ("task", "data_dir", *_FILES.values(), *_FORMAT, "metrics", "on_bad_row")


def read_task(settings: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> Task:
    """Read the task, and tell on standard error what reading found.

    Args:
        settings: The flags named in `TASK_FLAGS`, among others.
        stored: The format that is stored with a prompt, for files whose format no flag gives.

    Raises:
        ConfigError: If neither a task's name nor files are given, or both, or files without format.
        DataError: If a file cannot be read or a row is bad.
    """
    files = {split: settings[flag] for split, flag in _FILES.items() if settings[flag] is not None}
    if (settings["task"] is None) == (not files):
        raise ConfigError(
            "Give either --task NAME, or --train_file FILE (or another split's) with --input and --target."
        )
    if settings["task"] is not None:
        task = sp.load_task(settings["task"], settings["data_dir"], on_bad_row=settings["on_bad_row"])
    else:
        form = _format(settings, stored)
        task = sp.Task.from_files(**files, **form, metrics=settings["metrics"], on_bad_row=settings["on_bad_row"])
    print(f"Data of {task.name}:", *str(task.report).splitlines(), sep="\n  ", file=sys.stderr)
    return task


def _format(settings: Mapping[str, Any], stored: Mapping[str, Any] | None) -> dict[str, Any]:
    given = {key: settings[key] for key in _FORMAT}
    if stored is not None and not any(given.values()):
        return dict(stored)
    if given["input"] is None or given["target"] is None:
        raise ConfigError('Files need templates over their columns: --input "{text}" --target "{label}".')
    return given
