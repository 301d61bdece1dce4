"""Tasks by name: the built-in ones, those a program adds, and those that installed packages offer."""

from __future__ import annotations

from pathlib import Path

from softprompt.registry import Registry
from softprompt.tasks.builtin import BUILT_IN
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.examples import OnBadRow
from softprompt.tasks.task import Task

__all__ = ["load_task", "register_task", "task_definition", "task_names"]

TASKS: Registry[TaskDefinition] = Registry(
    "task", "softprompt.tasks", {definition.name: definition for definition in BUILT_IN}
)


def register_task(definition: TaskDefinition) -> None:
    """Add a task of your own; installed packages can offer theirs in the entry point group `softprompt.tasks`.

    Raises:
        ConfigError: If its name already stands for another task.
    """
    TASKS.add(definition.name, definition)


def task_names() -> tuple[str, ...]:
    """All known tasks, sorted."""
    return TASKS.names()


def task_definition(name: str) -> TaskDefinition:
    """What a task is, without reading its data; its `card` is text for people.

    Raises:
        ConfigError: If there is no task of that name.
    """
    return TASKS.get(name)


def load_task(name: str, data_dir: str | Path | None = None, *, on_bad_row: OnBadRow = "error") -> Task:
    """Load a task by name.

    Args:
        name: One of `task_names()`.
        data_dir: Folder with the original files, for tasks whose data are not bundled; without one they are loaded
            from the hub, where they are there.
        on_bad_row: `error` stops at the first bad row, `skip` counts them in the task's report.

    Raises:
        ConfigError: If the name is unknown, or a folder is needed and none is given.
        DataError: If a file is missing, the hub cannot be reached, or a row is bad.
    """
    return task_definition(name).load(data_dir, on_bad_row=on_bad_row)
