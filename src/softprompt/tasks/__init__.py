"""Tasks: text in, text out, from files, the hub, memory or by name; with the metrics that score them."""

from softprompt.tasks.catalogue import load_task, register_task, task_definition, task_names
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.examples import Example, TaskReport
from softprompt.tasks.format import FORMAT_SETTINGS, TextFormat
from softprompt.tasks.hub import HubSource
from softprompt.tasks.metrics import (
    Answers,
    Scorer,
    compute_available,
    compute_metrics,
    get_metric,
    get_scorer,
    match_label,
    metric_names,
    metric_of_score,
    register_metric,
)
from softprompt.tasks.mixture import Mixing, Mixture
from softprompt.tasks.rows import Row, read_rows
from softprompt.tasks.task import Task
from softprompt.tasks.template import PROMPT_MARK, FilledText, check_text

__all__ = [
    "FORMAT_SETTINGS",
    "PROMPT_MARK",
    "Answers",
    "Example",
    "FilledText",
    "HubSource",
    "Mixing",
    "Mixture",
    "Row",
    "Scorer",
    "Task",
    "TaskDefinition",
    "TaskReport",
    "TextFormat",
    "check_text",
    "compute_available",
    "compute_metrics",
    "get_metric",
    "get_scorer",
    "load_task",
    "match_label",
    "metric_names",
    "metric_of_score",
    "read_rows",
    "register_metric",
    "register_task",
    "task_definition",
    "task_names",
]
