"""A packed session: runs that share a backbone, from their orders to their rows; and what is scored without training.

Either is done by one process by itself. A session's checkpoints lie in its folder, so that another process can go on
with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.errors import NonFiniteError
from softprompt.evaluation import Evaluation, evaluate_many
from softprompt.inference import BatchLimits
from softprompt.loop.memory import reset_memory
from softprompt.prompts import SoftPrompt
from softprompt.studies.folder import StudyFolder
from softprompt.studies.grid import Grid
from softprompt.studies.measures import applied, measured_columns
from softprompt.studies.rows import Order, Planned, trained_row, untrained_row
from softprompt.studies.traces import traces
from softprompt.studies.workplace import Workplace
from softprompt.training import RunResult, TrainConfig, train

__all__ = ["Scoring", "Session"]

Row = Mapping[str, Any]


@final
@dataclass(frozen=True)
class Scoring:
    """A cell that is not trained.

    Attributes:
        order: The cell.
    """

    order: Order

    @property
    def backbone(self) -> str:
        """The backbone that it is scored on."""
        return self.order.cell.backbone

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.backbone}: {self.order.cell.title}"

    def run(self, workplace: Workplace) -> list[Row]:
        """Score it; its row."""
        backbone = workplace.backbone(self.backbone)
        return [untrained_row(workplace.grid, backbone, workplace.planned(self.order))]


@final
@dataclass(frozen=True)
class Session:
    """Runs that are trained together.

    Attributes:
        orders: The cells, at least one, all of one backbone.
        number: Among the sessions that were planned with it, from 1.
        planned: How many these are.
    """

    orders: tuple[Order, ...]
    number: int = 1
    planned: int = 1

    @property
    def backbone(self) -> str:
        """The backbone that they share."""
        return self.orders[0].cell.backbone

    @property
    def title(self) -> str:
        """What messages call it."""
        runs = f"{len(self.orders)} run{'s' * (len(self.orders) > 1)}"
        return f"{self.backbone}: session {self.number} of {self.planned}, {runs}"

    @property
    def keys(self) -> list[str]:
        """Of its rows, by which its folder is named."""
        return [order.key for order in self.orders]

    def run(self, workplace: Workplace) -> list[Row]:
        """Train and score the runs, or go on with that; keep the prompts that others need, and give the rows.

        Raises:
            TrainingInterrupted: After Ctrl-C or SIGTERM; the state is in the session's folder.
        """
        grid, folder = workplace.grid, workplace.folder
        backbone = workplace.backbone(self.backbone)
        session = [workplace.planned(order) for order in self.orders]
        resumed = folder.begin(self.keys)
        held = reset_memory(backbone.device)
        config = TrainConfig(**{**grid.session, "output_dir": folder.session(self.keys) / "session"})
        results: Mapping[str, RunResult] = {}
        seconds, step_seconds, reason = 0.0, 0.0, ""
        try:
            results = trained = train(backbone, [one.run for one in session], config)
            seconds, step_seconds = trained.seconds, trained.step_seconds
        except NonFiniteError as error:  # every run diverged: that is a result too
            reason = str(error)
        scores = _score(grid, backbone, session, results, config)
        _keep_prompts(folder, session, results)
        steps = sum(len(result.history) for result in results.values())
        shared = {
            "session_runs": len(session),
            "session_seconds": None if resumed else round(seconds, 1),  # what was spent before a stop is not known
            "seconds_per_step": seconds / steps if steps and not resumed else None,  # with evaluations
            "step_seconds": step_seconds / steps if steps and not resumed else None,  # without
            **traces(backbone.device, held),
        }
        looks = _look(grid, backbone, session, results)
        return [
            {
                **trained_row(grid, backbone, one, results.get(one.run.name), scores.get(one.run.name, {}), reason),
                **looks.get(one.run.name, {}),
                **shared,
            }
            for one in session
        ]


def _score(
    grid: Grid,
    backbone: Backbone,
    session: Sequence[Planned],
    results: Mapping[str, RunResult],
    config: TrainConfig,
) -> dict[str, dict[str | None, Evaluation]]:
    """By run, scores of what it learned on the reported split and the further tasks; prompts in mixed batches."""
    learned = {one.run.name: results[one.run.name].learned for one in session if one.run.name in results}
    jobs = {
        (one.run.name, where): job
        for one in session
        if one.run.name in learned and results[one.run.name].status != "failed"
        for where, job in one.jobs(
            grid, one.run.name if isinstance(learned[one.run.name], SoftPrompt) else None
        ).items()
    }
    finished = {name: value for name, value in learned.items() if (name, None) in jobs}
    prompts = {name: value for name, value in finished.items() if isinstance(value, SoftPrompt)}
    tuned = [value for value in finished.values() if isinstance(value, Backbone)]
    model = Prompted(tuned[0] if tuned else backbone, prompts)
    found = evaluate_many(model, jobs, limits=BatchLimits(tokens=config.evaluation_tokens)) if jobs else {}
    scores: dict[str, dict[str | None, Evaluation]] = {}
    for (name, where), evaluation in found.items():
        scores.setdefault(name, {})[where] = evaluation
    return scores


def _look(
    grid: Grid, backbone: Backbone, session: Sequence[Planned], results: Mapping[str, RunResult]
) -> dict[str, dict[str, Any]]:
    """By run, what the grid measures of the prompts that were learned."""
    if not grid.measures:
        return {}
    learned = {one.run.name: (one, results[one.run.name]) for one in session if one.run.name in results}
    return {
        name: measured_columns(
            applied(grid.measures, one.cell.settings), backbone, result.learned, one.task, compared=one.compared
        )
        for name, (one, result) in learned.items()
        if result.status != "failed" and isinstance(result.learned, SoftPrompt)
    }


def _keep_prompts(folder: StudyFolder, session: Sequence[Planned], results: Mapping[str, RunResult]) -> None:
    """Store the prompts that other cells may need; a row is entered only after that."""
    for one in session:
        result = results.get(one.run.name)
        if one.order.keeps_prompt and result is not None and result.status != "failed":
            result.prompt.save(folder.prompt(one.key))
