"""What a session leaves behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from softprompt.backbones import Backbone
from softprompt.config import choose
from softprompt.errors import ConfigError
from softprompt.prompts import SoftPrompt
from softprompt.training.learners import Learned
from softprompt.training.member import Status
from softprompt.training.task_prompts import TaskPrompts

__all__ = ["RunResult", "TrainResult"]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What one run reached.

    Attributes:
        learned: The best prompt, prompts by task, or tuned model, by the run's metric; the last good one if it was
            never evaluated.
        trained: Values that training changed, those of a reparameterisation included.
        shares: Of several tasks, the share of each in the rows that were drawn.
        metrics: Its scores on the validation split.
        history: One entry per step: `step`, `loss` (nats per token of the target, or per row where it is ranked),
            `learning_rate`, and scores where it was evaluated.
        best_step: The step that it is of.
        status: `finished`, `stopped early` or `failed`.
        reason: Why it stopped early or failed.
        path: Its folder; None if nothing was written, as for a run that failed in its first step.
    """

    learned: Learned
    trained: int
    shares: Mapping[str, float]
    metrics: Mapping[str, float]
    history: list[dict[str, float]]
    best_step: int
    status: Status
    reason: str
    path: Path | None

    @property
    def parameters(self) -> int:
        """Values that were learned, any reparameterisation computed away."""
        if isinstance(self.learned, Backbone):
            return self.trained
        return sum(prompt.num_parameters() for prompt in self.prompts.values())

    @property
    def prompts(self) -> Mapping[str, SoftPrompt]:
        """The prompts by the names of their tasks; under the empty name where there is but one.

        Raises:
            ConfigError: If the run tuned the model.
        """
        if isinstance(self.learned, Backbone):
            raise ConfigError("This run tuned the model and has no prompt; take its .backbone.")
        return {"": self.learned} if isinstance(self.learned, SoftPrompt) else self.learned

    @property
    def shared(self) -> SoftPrompt | None:
        """What the prompts of several tasks have in common, to start a new task from; None if nothing is."""
        return self.learned.shared if isinstance(self.learned, TaskPrompts) else None

    @property
    def prompt(self) -> SoftPrompt:
        """The prompt.

        Raises:
            ConfigError: If the run tuned the model, or trained prompts for several tasks.
        """
        if isinstance(self.learned, SoftPrompt):
            return self.learned
        raise ConfigError(f"This run has {len(self.prompts)} prompts, one for each task; take them from .prompts.")

    @property
    def backbone(self) -> Backbone:
        """The tuned model, frozen.

        Raises:
            ConfigError: If the run trained a prompt.
        """
        if isinstance(self.learned, Backbone):
            return self.learned
        raise ConfigError("This run trained a prompt and left the backbone as it was; take its .prompt.")


@final
class TrainResult(Mapping[str, RunResult]):
    """The results of a session's runs, by name.

    Attributes:
        seconds: Wall time of this call's steps and evaluations.
        step_seconds: Wall time of this call's steps alone: drawing, passes and updates.
        steps: Steps that the session has taken.
    """

    def __init__(self, runs: Mapping[str, RunResult], *, seconds: float, step_seconds: float, steps: int) -> None:
        self._runs = dict(runs)
        self.seconds = seconds
        self.step_seconds = step_seconds
        self.steps = steps

    def __getitem__(self, name: str) -> RunResult:
        if name not in self._runs:
            raise KeyError(str(choose("run", name, self._runs)))
        return self._runs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)
