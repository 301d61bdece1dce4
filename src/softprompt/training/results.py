"""What a session leaves behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from softprompt.config import choose
from softprompt.prompts import SoftPrompt
from softprompt.training.member import Status

__all__ = ["RunResult", "TrainResult"]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What one run reached.

    Attributes:
        prompt: The best prompt by the run's metric; the last good one if it was never evaluated.
        metrics: That prompt's scores on the validation split.
        history: One entry per step: `step`, `loss` (nats per token), `learning_rate`, and scores where it was
            evaluated.
        best_step: The step that the prompt is of.
        status: `finished`, `stopped early` or `failed`.
        reason: Why it stopped early or failed.
        path: The prompt's folder; None if nothing was written, as for a run that failed in its first step.
    """

    prompt: SoftPrompt
    metrics: Mapping[str, float]
    history: list[dict[str, float]]
    best_step: int
    status: Status
    reason: str
    path: Path | None


@final
class TrainResult(Mapping[str, RunResult]):
    """The results of a session's runs, by name.

    Attributes:
        seconds: Wall time of this call's steps and evaluations.
        steps: Steps that the session has taken.
    """

    def __init__(self, runs: Mapping[str, RunResult], *, seconds: float, steps: int) -> None:
        self._runs = dict(runs)
        self.seconds = seconds
        self.steps = steps

    def __getitem__(self, name: str) -> RunResult:
        if name not in self._runs:
            raise KeyError(str(choose("run", name, self._runs)))
        return self._runs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)
