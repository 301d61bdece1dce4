"""`softprompt tasks`: the tasks known by name."""

from __future__ import annotations

from softprompt.cli.tables import print_table

__all__ = ["list_tasks", "show"]


def list_tasks() -> None:
    """List the tasks known by name, with licence and where their data come from.

    Data are bundled, or loaded from the hub (or a folder of yours), or files: a folder of yours alone.
    """
    from softprompt.tasks import task_definition, task_names

    definitions = [task_definition(name) for name in task_names()]
    print_table(("task", "data", "licence"), [(one.name, one.data, one.licence) for one in definitions])


def show(*, name: str) -> None:
    """Show a task: template, label words, metrics, what is scored together, splits, data, source, licence and citation.

    Args:
        name: The task's name.
    """
    from softprompt.tasks import task_definition

    print(task_definition(name).card)
