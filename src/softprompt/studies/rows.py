"""The rows of a results table: what is told of each run of a grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.config import to_mapping
from softprompt.evaluation import Evaluation, Job, evaluate_majority, evaluate_many
from softprompt.studies.grid import Cell, Grid
from softprompt.tasks import Task
from softprompt.training import Run, RunResult

__all__ = ["Planned", "refused_row", "trained_row", "untrained_row"]


@final
@dataclass(frozen=True)
class Planned:
    """A cell with its task, digests of the model and the data that it meets, and the key that follows from them."""

    cell: Cell
    task: Task
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

    @property
    def alone(self) -> bool:
        """Whether it needs a session of its own."""
        return self.cell.tunes_weights


def refused_row(grid: Grid, backbone: Backbone, one: Planned, reason: str) -> dict[str, Any]:
    """What the table keeps of a method that is none for the backbone or the task."""
    return {**_identity(grid, backbone, one), "status": "unsupported", "reason": reason}


def untrained_row(grid: Grid, backbone: Backbone, one: Planned) -> dict[str, Any]:
    """Score prompt design on both splits; nothing is trained."""
    settings = one.cell.settings
    job = Job(
        task=one.task,
        text=one.cell.text_prompt(one.task),
        by=settings.get("by"),
        rows=settings.get("evaluate_rows"),
        max_new_tokens=settings.get("max_new_tokens"),
        max_input_tokens=settings.get("max_input_tokens"),
        truncate=settings.get("truncate", False),
        calibrate=one.cell.calibrates,
    )
    found = evaluate_many(
        Prompted(backbone), {"validation": job, grid.split: replace(job, split=grid.split, rows=grid.rows)}
    )
    validation = {f"validation_{name}": score for name, score in found["validation"].items()}
    row = {**_identity(grid, backbone, one), "status": "finished", "reason": "", "parameters": 0, "trained": 0}
    return {**row, **validation, **_reported(grid, one, found[grid.split])}


def trained_row(
    grid: Grid, backbone: Backbone, one: Planned, result: RunResult | None, scores: Evaluation | None, reason: str
) -> dict[str, Any]:
    """What the table keeps of a run."""
    row = {
        **_identity(grid, backbone, one),
        "status": result.status if result else "failed",
        "reason": result.reason if result else reason,
    }
    if result is None or scores is None:
        return row
    row |= {"best_step": result.best_step, "parameters": result.parameters, "trained": result.trained}
    row["stored_bytes"] = (
        sum(file.stat().st_size for file in result.path.rglob("*.safetensors")) if result.path else None
    )
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


def _reported(grid: Grid, one: Planned, scores: Evaluation) -> dict[str, Any]:
    """The reported split's scores, their intervals, and the most frequent answer's."""
    row: dict[str, Any] = {}
    for name, score in scores.items():
        low, high = scores.intervals[name]
        row |= {f"{grid.split}_{name}": score, f"{grid.split}_{name}_low": low, f"{grid.split}_{name}_high": high}
    row[f"{grid.split}_majority"] = evaluate_majority(one.task, grid.split, rows=grid.rows)[one.watches]
    row[f"{grid.split}_rows"] = len(scores.predictions)
    if scores.missing:
        row[f"{grid.split}_missing"] = "; ".join(f"{name}: {reason}" for name, reason in scores.missing.items())
    return row
