"""The rows of a results table: what is told of each run of a grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.config import to_mapping
from softprompt.evaluation import Evaluation, Job, evaluate_majority, evaluate_many
from softprompt.studies.grid import Cell, Grid
from softprompt.studies.reading import Other
from softprompt.studies.traces import reset_memory, stored_bytes, traces
from softprompt.tasks import Task
from softprompt.training import Run, RunResult

__all__ = ["ON", "Planned", "refused_row", "trained_row", "untrained_row"]

ON = "on "
"""What a further task's columns begin with, before its label."""
_CHOSEN_ON = "chosen on"


@final
@dataclass(frozen=True)
class Planned:
    """A cell with what it meets, and the key that follows from both.

    Attributes:
        cell: Of the grid.
        task: What it is trained and scored on.
        others: By label, what it is scored on besides.
        backbone_digest: Digest of the model.
        task_digest: Digest of the tasks' rows and words.
        key: Of its row in the table.
    """

    cell: Cell
    task: Task
    others: Mapping[str, Other]
    backbone_digest: str
    task_digest: str
    key: str

    @cached_property
    def run(self) -> Run:
        """The run that it stands for, if it is trained."""
        return self.cell.run(f"{self.cell.title}-{self.key[:6]}", self.task)

    @property
    def watches(self) -> str:
        """The score that counts."""
        return self.cell.settings.get("metric") or self.task.watched

    def jobs(self, grid: Grid, prompt: str | None) -> dict[str | None, Job]:
        """What is reported: the grid's split, and by label the further tasks.

        Args:
            grid: Which split, and how many of its rows.
            prompt: The name of what was learned; None if it is the model itself, or nothing.
        """
        own = self._job(prompt, grid.split, grid.rows)
        jobs: dict[str | None, Job] = {None: own}
        jobs |= {label: replace(own, task=other.task, split=other.split) for label, other in self.others.items()}
        return jobs

    def chosen_by(self, prompt: str | None) -> Job:
        """What its values are chosen by: the validation split.

        Args:
            prompt: As in `jobs`.
        """
        return self._job(prompt, "validation", self.cell.settings.get("evaluate_rows"))

    def _job(self, prompt: str | None, split: str, rows: int | None) -> Job:
        settings = self.cell.settings
        return Job(
            task=self.task,
            split=split,
            prompt=prompt,
            text=self.cell.text_prompt(self.task) if self.cell.is_untrained else None,
            by=settings.get("by"),
            rows=rows,
            max_new_tokens=settings.get("max_new_tokens"),
            max_input_tokens=settings.get("max_input_tokens"),
            truncate=settings.get("truncate", False),
            calibrate=self.cell.is_untrained and self.cell.calibrates,
        )

    @property
    def alone(self) -> bool:
        """Whether it needs a session of its own."""
        return self.cell.tunes_weights


def refused_row(grid: Grid, backbone: Backbone, one: Planned, reason: str) -> dict[str, Any]:
    """What the table keeps of a method that is none for the backbone or the task."""
    return {**_identity(grid, backbone, one), "status": "unsupported", "reason": reason}


def untrained_row(grid: Grid, backbone: Backbone, one: Planned) -> dict[str, Any]:
    """Score prompt design on both splits; nothing is trained, and its words are what would be stored."""
    reset_memory(backbone.device)
    jobs = one.jobs(grid, None)
    words = jobs[None].text
    found = evaluate_many(Prompted(backbone), {_CHOSEN_ON: one.chosen_by(None), **jobs})
    validation = {f"validation_{name}": score for name, score in found.pop(_CHOSEN_ON).items()}
    row = {**_identity(grid, backbone, one), "status": "finished", "reason": "", "parameters": 0, "trained": 0}
    row["stored_bytes"] = 0 if words is None else len(words.text.encode())
    return {**row, **validation, **_reported(grid, one, found), **traces(backbone.device)}


def trained_row(
    grid: Grid,
    backbone: Backbone,
    one: Planned,
    result: RunResult | None,
    scores: Mapping[str | None, Evaluation],
    reason: str,
) -> dict[str, Any]:
    """What the table keeps of a run.

    Args:
        grid: It is of.
        backbone: It was run on.
        one: What was run.
        result: What came of it; None if its session came to nothing.
        scores: By what was reported on, as `Planned.jobs` names it; empty if it failed.
        reason: Why its session came to nothing.
    """
    row = {
        **_identity(grid, backbone, one),
        "status": result.status if result else "failed",
        "reason": result.reason if result else reason,
    }
    if result is None or not scores:
        return row
    row |= {"best_step": result.best_step, "parameters": result.parameters, "trained": result.trained}
    row["stored_bytes"] = stored_bytes(result.path)
    row |= {f"validation_{name}": score for name, score in result.metrics.items()}
    return {**row, **_reported(grid, one, scores)}


def _identity(grid: Grid, backbone: Backbone, one: Planned) -> dict[str, Any]:
    """What a row says of its cell."""
    cell = one.cell
    return {
        "key": one.key,
        "cell": cell.identity,
        "backbone_digest": one.backbone_digest,
        "task_digest": one.task_digest,
        "study": grid.name,
        "backbone": cell.backbone,
        "backbone_parameters": sum(parameter.numel() for parameter in backbone.model.parameters()),
        "task": cell.task,
        "label": cell.method,
        **to_mapping(dict(cell.settings)),
        "seed": cell.seed,
        "metric": one.watches,
    }


def _reported(grid: Grid, one: Planned, scores: Mapping[str | None, Evaluation]) -> dict[str, Any]:
    """The reported split's scores, their intervals, and the most frequent answer's; the same of the further tasks."""
    majority = evaluate_majority(one.cell.drawn(one.task), grid.split, rows=grid.rows)[one.watches]
    row = {**_scored(grid.split, scores[None]), f"{grid.split}_majority": majority}
    row["evaluation_seconds"] = round(scores[None].seconds, 1)  # of all that was scored in the same batches
    for label in one.others:
        row |= _scored(f"{ON}{label}", scores[label])
    return row


def _scored(prefix: str, scores: Evaluation) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, score in scores.items():
        low, high = scores.intervals[name]
        row |= {f"{prefix}_{name}": score, f"{prefix}_{name}_low": low, f"{prefix}_{name}_high": high}
    row[f"{prefix}_rows"] = len(scores.predictions)
    if scores.missing:
        row[f"{prefix}_missing"] = "; ".join(f"{name}: {reason}" for name, reason in scores.missing.items())
    return row
