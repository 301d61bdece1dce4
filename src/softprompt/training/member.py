"""One run inside a session: what it trains, its optimizer, data position, and what it has reached."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from softprompt.errors import NonFiniteError
from softprompt.evaluation import Job
from softprompt.loop.optimizers import build_optimizer
from softprompt.loop.schedules import build_schedule
from softprompt.tasks import Task
from softprompt.training.data import Batches, TrainRow
from softprompt.training.learners import Learned, Learner
from softprompt.training.mixing import MixedRows
from softprompt.training.run import Run

__all__ = ["Member", "Status"]

Status = Literal["running", "finished", "stopped early", "failed"]


class Member:
    """A live run. Everything that changes is in `state_dict`, so that a resumed run continues exactly.

    Attributes:
        parameters: What its optimizer changes.

    Args:
        run: Its settings.
        learner: What it trains, on the backbone's device.
        rows: Its tokenized training rows, by the names of its tasks.
    """

    def __init__(self, run: Run, learner: Learner, rows: Mapping[str, Sequence[TrainRow]]) -> None:
        self.run = run
        self.learner = learner
        self.parameters = [p for p in learner.module.parameters() if p.requires_grad]
        counts = {task: len(several) for task, several in rows.items()}
        self._batches = Batches(
            [row for several in rows.values() for row in several],
            batch_size=run.batch_size,
            batch_tokens=run.batch_tokens,
            seed=run.seed,
            rows_of=MixedRows(run.mixture, counts, seed=run.seed) if len(counts) > 1 else None,
        )
        self._task_of = {id(row): task for task, several in rows.items() for row in several}
        self.drawn: Counter[str] = Counter(dict.fromkeys(counts, 0))
        self._optimizer = build_optimizer(
            run.optimizer, self.parameters, learning_rate=run.learning_rate, weight_decay=run.weight_decay
        )
        self._schedule = build_schedule(
            run.schedule, self._optimizer, warmup_steps=run.warmup_steps, total_steps=run.steps
        )
        self.step = 0
        self.status: Status = "running"
        self.reason = ""
        self.history: list[dict[str, float]] = []
        self.metrics: dict[str, float] = {}
        self.best_step = 0
        self._best: dict[str, Tensor] | None = None
        self._before = self._values() if learner.undoes_steps else []
        self._waited = 0

    @property
    def live(self) -> bool:
        """Whether it still trains."""
        return self.status == "running"

    @property
    def num_trained(self) -> int:
        """Values that its optimizer changes."""
        return sum(parameter.numel() for parameter in self.parameters)

    @property
    def due(self) -> bool:
        """Whether it is to be evaluated now."""
        every = self.run.evaluate_every
        if every == 0 or not self.step:
            return False
        return self.step == self.run.steps or (every is not None and self.step % every == 0)

    def draw(self) -> list[TrainRow]:
        """The rows of its next step."""
        rows = [row for _ in range(self.run.accumulate) for row in self._batches.draw()]
        self.drawn.update(self._task_of[id(row)] for row in rows)
        return rows

    def job(self, task: Task) -> Job:
        """What an evaluation asks of it on a task."""
        run = self.run
        return Job(
            task=task,
            prompt=self.learner.asked_as(task.name),
            by=run.evaluates_by(task),
            rows=run.evaluate_rows,
            max_new_tokens=run.max_new_tokens,
            max_input_tokens=run.max_input_tokens,
            truncate=run.truncate,
        )

    @property
    def shares(self) -> dict[str, float]:
        """The share of each task in the rows that were drawn so far; none before the first."""
        total = self.drawn.total()
        return {task: count / total for task, count in self.drawn.items()} if total else {}

    def advance(self, loss: float) -> None:
        """Take the optimizer's step for gradients that were just added, and that of a penalty on the values.

        Raises:
            NonFiniteError: If the loss, the gradient, or a value after the step is NaN or infinite.
        """
        penalty = self.learner.penalty()
        if penalty is not None:
            penalty.backward()
        norm = float(nn.utils.get_total_norm(p.grad for p in self.parameters if p.grad is not None))
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise self._diverged(self.step + 1, f"the loss is {loss} and its gradient's norm {norm}")
        if self.run.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, self.run.clip_norm, torch.tensor(norm))
        if self.learner.undoes_steps:
            self._before = self._values()
        rate = float(self._schedule.get_last_lr()[0])
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        entry = {"step": self.step, "loss": loss, "learning_rate": rate}
        self.history.append(entry if penalty is None else {**entry, "penalty": penalty.item()})
        if not all(bool(p.isfinite().all()) for p in self.parameters):
            raise self._diverged(self.step, "a value becomes NaN or infinite")

    def _diverged(self, step: int, how: str) -> NonFiniteError:
        clip = ", or set clip_norm" if self.run.clip_norm is None else f" or clip_norm={self.run.clip_norm}"
        return NonFiniteError(
            f"run {self.run.name!r}: at step {step} {how}; lower learning_rate={self.run.learning_rate}{clip}."
        )

    def _values(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.parameters]

    def judge(self, metrics: Mapping[str, float]) -> None:
        """Note an evaluation: keep the values if they are the best so far, and stop if they have not been for long.

        Raises:
            NonFiniteError: If a score is NaN or infinite: no later one could be better, and it cannot be stored.
        """
        for name, score in metrics.items():
            if not math.isfinite(score):
                raise NonFiniteError(
                    f"run {self.run.name!r}: at step {self.step} the score {name!r} is {score}; mend its metric, or "
                    "leave it out of the task's metrics."
                )
        watched = self.run.watches
        self.history[-1].update(metrics)
        if self._best is None or metrics[watched] > self.metrics[watched]:
            self.metrics, self.best_step, self._waited = dict(metrics), self.step, 0
            self._best = self.learner.values()
        else:
            self._waited += 1
        if self.run.patience is not None and self._waited >= self.run.patience and self.step < self.run.steps:
            self.stop(f"no better {watched} in {self._waited} evaluations")

    def stop(self, reason: str) -> None:
        """Close the run before its steps are taken; the best so far is its result."""
        self.status, self.reason = "stopped early", reason

    def finish(self) -> None:
        """Close the run if its steps are taken."""
        if self.live and self.step >= self.run.steps:
            self.status = "finished"

    def fail(self, error: Exception) -> None:
        """Close the run. Its last step led to what failed, so it is taken back; the best so far remains.

        Weights that are too many to keep of each step go back to the best, or to the start.
        """
        self.status, self.reason = "failed", str(error)
        if not self.learner.undoes_steps:
            self.step = self.best_step
            self.learner.restore(self._best)
            return
        self.step = max(0, self.step - 1)
        with torch.no_grad():
            for parameter, value in zip(self.parameters, self._before, strict=True):
                parameter.copy_(value)

    @property
    def result_step(self) -> int:
        """The step that the result is of."""
        return self.step if self._best is None else self.best_step

    def told(self) -> dict[str, dict[str, Any]]:
        """What the results are to know, by what they are for: format, settings, scores, and how the run ended."""
        end: dict[str, Any] = {"status": self.status, "reason": self.reason, "best_step": self.result_step}
        if len(self.drawn) > 1:
            end["shares"] = self.shares
        return {
            name: {
                "task": name,
                "format": None if form is None else form.to_mapping(),
                "run": {**self.run.settings(), **end},
                "metrics": {"validation": self.metrics} if self.metrics else {},
            }
            for name, form in self.run.learned_for.items()
        }

    def result(self) -> Learned:
        """What was learned: the best, or the last good one if it was never evaluated."""
        return self.learner.finish(self._best, self.told())

    def state_dict(self) -> dict[str, Any]:
        """Everything that a continuation needs."""
        return {
            "learner": self.learner.values(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "batches": {"epoch": self._batches.epoch, "index": self._batches.index},
            "drawn": dict(self.drawn),
            "best": self._best,
            "before": self._before,
            **{key: getattr(self, key) for key in _PLAIN},
            "waited": self._waited,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self.learner.restore(state["learner"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._batches.go_to(**state["batches"])
        self.drawn.update(state["drawn"])
        self._best, self._before, self._waited = state["best"], state["before"], state["waited"]
        for key in _PLAIN:
            setattr(self, key, state[key])


_PLAIN = ("step", "status", "reason", "history", "metrics", "best_step")
