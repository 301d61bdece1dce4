"""`softprompt tasks`: the tasks known by name."""

from __future__ import annotations

from softprompt.cli.tables import print_table

__all__ = ["list_tasks", "show"]


def list_tasks() -> None:
    """List the tasks known by name, with licence and where their data come from."""
    from softprompt.tasks import task_definition, task_names

    definitions = [task_definition(name) for name in task_names()]
    print_table(("task", "licence"), [(definition.name, definition.licence) for definition in definitions])


def show(*, name: str) -> None:
    """Show a task: template, label words, metrics, source, licence and citation.

    Args:
        name: The task's name.
    """
    from softprompt.tasks import task_definition

    print(task_definition(name).card)
