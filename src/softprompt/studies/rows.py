"""The rows of a results table: what is told of each run of a grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, final

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.config import to_mapping
from softprompt.evaluation import Evaluation, Job, evaluate_majority, evaluate_many
from softprompt.inference import Ensemble, Together
from softprompt.loop.memory import reset_memory
from softprompt.prompts import SoftPrompt
from softprompt.studies.cases import CASES, choose_cases
from softprompt.studies.cells import Cell
from softprompt.studies.grid import Grid
from softprompt.studies.measures import MEASURED, MEMBERS_BEST, MEMBERS_MEAN
from softprompt.studies.outcomes import OUTCOMES, keep_outcomes
from softprompt.studies.reading import Other
from softprompt.studies.traces import adapted_steps, stored_bytes, traces
from softprompt.tasks import Task
from softprompt.training import Run, RunResult

__all__ = ["ON", "Order", "Planned", "count_parameters", "trained_row", "unmade_row", "untrained_row"]

ON = "on "
"""What a further task's columns begin with, before its label."""
_CHOSEN_ON = "chosen on"


@final
@dataclass(frozen=True, kw_only=True)
class Order:
    """A cell whose row is to be made, in plain values.

    Attributes:
        cell: Of the grid.
        backbone_digest: Digest of the model.
        task_digest: Digest of the tasks' rows and words.
        source_keys: Of the runs whose prompts it needs.
        keeps_prompt: Whether other cells may need what it learns.
    """

    cell: Cell
    backbone_digest: str
    task_digest: str
    source_keys: tuple[str, ...] = ()
    keeps_prompt: bool = False

    @cached_property
    def key(self) -> str:
        """Of its row in the table."""
        return self.cell.key(self.backbone_digest, self.task_digest, self.source_keys)


@final
@dataclass(frozen=True)
class Planned:
    """What was ordered, with what it meets.

    Attributes:
        order: What was ordered.
        task: What it is trained and scored on.
        others: By label, what it is scored on besides.
        sources: Where the prompts lie that it needs.
    """

    order: Order
    task: Task
    others: Mapping[str, Other]
    sources: tuple[str, ...] = ()

    @property
    def cell(self) -> Cell:
        """Of the grid."""
        return self.order.cell

    @property
    def key(self) -> str:
        """Of its row in the table."""
        return self.order.key

    @cached_property
    def run(self) -> Run:
        """The run that it stands for, if it is trained."""
        return self.cell.run(f"{self.cell.title}-{self.key[:6]}", self.task, self.sources)

    @property
    def watches(self) -> str:
        """The score that counts."""
        return self.cell.settings.get("metric") or self.task.watched

    @property
    def compared(self) -> tuple[SoftPrompt, SoftPrompt] | None:
        """The prompt that it starts from and that which was learned on its task alone, if they are compared."""
        if self.cell.alone is None:
            return None
        start, alone = map(SoftPrompt.load, self.sources)
        return start, alone

    def jobs(self, grid: Grid, prompt: str | Together | None) -> dict[str | None, Job]:
        """What is reported: the grid's split, and by label the further tasks.

        Args:
            grid: Which split, and how many of its rows.
            prompt: The name of what was learned, or the names of an ensemble's members; None if it is the model itself,
                or nothing.
        """
        own = self._job(prompt, grid.split, grid.rows)
        jobs: dict[str | None, Job] = {None: own}
        jobs |= {label: replace(own, task=other.task, split=other.split) for label, other in self.others.items()}
        return jobs

    def chosen_by(self, prompt: str | Together | None) -> Job:
        """What its values are chosen by: the validation split.

        Args:
            prompt: As in `jobs`.
        """
        return self._job(prompt, "validation", self.cell.settings.get("evaluate_rows"))

    def _job(self, prompt: str | Together | None, split: str, rows: int | None) -> Job:
        settings = self.cell.settings
        return Job(
            task=self.task,
            split=split,
            prompt=prompt,
            text=self.cell.text_prompt(self.task) if self.designs_text else None,
            by=settings.get("by"),
            rows=rows,
            max_new_tokens=settings.get("max_new_tokens"),
            max_input_tokens=settings.get("max_input_tokens"),
            truncate=settings.get("truncate", False),
            calibrate=self.designs_text and self.cell.calibrates,
        )

    @property
    def designs_text(self) -> bool:
        """Whether it is prompt design."""
        return self.cell.is_untrained and not self.cell.is_ensemble


def count_parameters(backbone: Backbone) -> int:
    """Values of the model."""
    return sum(parameter.numel() for parameter in backbone.model.parameters())


def unmade_row(grid: Grid, backbone_parameters: int, one: Planned, *, status: str, reason: str) -> dict[str, Any]:
    """What the table keeps of a cell that is not run.

    Args:
        grid: It is of.
        backbone_parameters: Values of the model.
        one: What was planned.
        status: `unsupported` by the backbone or the task; `failed`, if the prompts that it needs were not learned.
        reason: Why.
    """
    return {**_identity(grid, backbone_parameters, one), "status": status, "reason": reason}


def untrained_row(grid: Grid, backbone: Backbone, one: Planned) -> dict[str, Any]:
    """Score on both splits what is not trained; what prompt design would store is its words."""
    held = reset_memory(backbone.device)
    members: dict[str, Any] = {}
    if one.cell.is_ensemble:
        ensemble = Ensemble(backbone, [SoftPrompt.load(path) for path in one.sources], combine=one.cell.combine)
        model, asked = ensemble.model, ensemble.prompt
        parameters = sum(prompt.num_parameters() for prompt in ensemble.members.prompts)
        stored = sum(stored_bytes(Path(path)) or 0 for path in one.sources)
        members = _of_members(grid, model, one)
    else:
        words = one.cell.text_prompt(one.task)
        model, asked, parameters = Prompted(backbone), None, 0
        stored = 0 if words is None else len(words.text.encode())
    found = evaluate_many(model, {_CHOSEN_ON: one.chosen_by(asked), **one.jobs(grid, asked)})
    validation = {f"validation_{name}": score for name, score in found.pop(_CHOSEN_ON).items()}
    row = {**_identity(grid, count_parameters(backbone), one), "status": "finished", "reason": ""}
    row |= {"parameters": parameters, "trained": 0, "stored_bytes": stored}
    reported = _reported(grid, one, found)
    outcomes = {OUTCOMES: {**reported[OUTCOMES], **members.pop(OUTCOMES, {})}}
    return {**row, **validation, **reported, **members, **outcomes, **traces(backbone.device, held)}


def _of_members(grid: Grid, model: Prompted, one: Planned) -> dict[str, Any]:
    """The watched score of an ensemble's members by themselves, on the reported split, and what came out by row."""
    jobs = {(name, _CHOSEN_ON): one.chosen_by(name) for name in model.prompts}
    jobs |= {(name, grid.split): one.jobs(grid, name)[None] for name in model.prompts}
    found = evaluate_many(model, jobs)
    best = max(model.prompts, key=lambda name: found[name, _CHOSEN_ON][one.watches])
    compared = {MEMBERS_MEAN: [*model.prompts], MEMBERS_BEST: [best]}
    row: dict[str, Any] = {OUTCOMES: {}}
    for measured, names in compared.items():
        scores = [found[name, grid.split] for name in names]
        row[f"{MEASURED}{measured}"] = fmean(score[one.watches] for score in scores)
        row[OUTCOMES][f"{MEASURED}{measured}"] = keep_outcomes(one.watches, *scores)
    return row


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
        **_identity(grid, count_parameters(backbone), one),
        "status": result.status if result else "failed",
        "reason": result.reason if result else reason,
    }
    if result is None or not scores:
        return row
    row |= {"best_step": result.best_step, "parameters": result.parameters, "trained": result.trained}
    row["stored_bytes"] = stored_bytes(result.path)
    row |= {f"validation_{name}": score for name, score in result.metrics.items()}
    return {**row, **_reported(grid, one, scores)}


def _identity(grid: Grid, backbone_parameters: int, one: Planned) -> dict[str, Any]:
    """What a row says of its cell."""
    cell = one.cell
    return {
        "key": one.key,
        "cell": cell.identity,
        "backbone_digest": one.order.backbone_digest,
        "task_digest": one.order.task_digest,
        "study": grid.name,
        "backbone": cell.backbone,
        "backbone_parameters": backbone_parameters,
        "backbone_adapted_steps": adapted_steps(cell.backbone),
        "task": cell.task,
        "label": cell.method,
        **to_mapping(dict(cell.settings)),
        "seed": cell.seed,
        **({"source_keys": list(one.order.source_keys)} if one.order.source_keys else {}),
        "metric": one.watches,
    }


def _reported(grid: Grid, one: Planned, scores: Mapping[str | None, Evaluation]) -> dict[str, Any]:
    """The reported split's scores, their intervals, and the most frequent answer's; the same of the further tasks.

    Of the score that counts, what came out for each row; with the first seed, a few answers too.
    """
    majority = evaluate_majority(one.cell.drawn(one.task), grid.split, rows=grid.rows)[one.watches]
    row = {**_scored(grid.split, scores[None]), f"{grid.split}_majority": majority}
    row["evaluation_seconds"] = round(scores[None].seconds, 1)  # of all that was scored in the same batches
    for label in one.others:
        row |= _scored(f"{ON}{label}", scores[label])
    asked = {grid.split: None, **{f"{ON}{label}": label for label in one.others}}
    row[OUTCOMES] = {name: keep_outcomes(one.watches, scores[label]) for name, label in asked.items()}
    if one.cell.seed == grid.seeds[0]:
        row[CASES] = choose_cases(scores[None])
    return row


def _scored(prefix: str, scores: Evaluation) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, score in scores.items():
        row[f"{prefix}_{name}"] = score
        if interval := scores.intervals.get(name):
            row |= {f"{prefix}_{name}_low": interval.low, f"{prefix}_{name}_high": interval.high}
    row[f"{prefix}_rows"] = len(scores.predictions)
    if scores.missing:
        row[f"{prefix}_missing"] = "; ".join(f"{name}: {reason}" for name, reason in scores.missing.items())
    return row
