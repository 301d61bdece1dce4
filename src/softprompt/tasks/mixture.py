"""Several tasks as one: how often each of them is trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final, get_args

from softprompt.config import check_types, choose
from softprompt.errors import ConfigError
from softprompt.tasks.task import Task

__all__ = ["Mixing", "Mixture"]

Mixing = Literal["proportional", "temperature", "equal"]


@final
@dataclass(frozen=True)
class Mixture:
    """Tasks that are learned together, and the share of the training rows that each has.

    Attributes:
        tasks: The tasks, with names of their own.
        mixing: `proportional` to the rows of each task; `temperature`, to their T-th root; `equal`.
        temperature: T of `temperature`: 1 is proportional, and the more the nearer to equal.
        limit: Most rows that a task counts with, so that a large one does not crowd out the others; None does not
            bound them. Not for `equal`.

    Raises:
        ConfigError: If there are no tasks, names repeat, or a setting is unknown, out of range, or for another mixing.

    References:
        Raffel et al. 2020, §3.5.2 (examples-proportional mixing with a limit, temperature-scaled, equal).
    """

    tasks: Sequence[Task]
    mixing: Mixing = "proportional"
    temperature: float | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        check_types(type(self), vars(self))
        object.__setattr__(self, "tasks", tuple(self.tasks))
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"A mixture needs tasks with names of their own; got {names}.")
        if self.mixing not in get_args(Mixing):
            raise choose("mixing", self.mixing, get_args(Mixing))
        if (self.temperature is not None) != (self.mixing == "temperature"):
            raise ConfigError(
                f"mixing={self.mixing!r} and temperature={self.temperature}: a temperature is for 'temperature' alone, "
                "which needs one, such as 2."
            )
        if self.temperature is not None and not 1 <= self.temperature < math.inf:
            raise ConfigError(f"temperature={self.temperature}: expected at least 1, which is proportional.")
        if self.limit is not None and (self.limit < 1 or self.mixing == "equal"):
            raise ConfigError(
                f"limit={self.limit}: expected at least 1 row, and a mixing that asks how many rows a task has."
            )

    @property
    def name(self) -> str:
        """The names of the tasks, joined."""
        return "-".join(task.name for task in self.tasks)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The labels of all tasks, each once, in the tasks' order; None where none has any."""
        return tuple(dict.fromkeys(label for task in self.tasks for label in task.labels or ())) or None

    @property
    def start_words(self) -> tuple[str, ...]:
        """Those of all tasks, each once, in the tasks' order."""
        return tuple(dict.fromkeys(word for task in self.tasks for word in task.start_words))

    @property
    def tags(self) -> None:
        """None: a head over tokens is one task's."""

    @property
    def context(self) -> None:
        """None: a head over tokens is one task's."""

    @property
    def segments(self) -> tuple[int, ...]:
        """Virtual tokens at each place that the tasks' inputs have for them.

        Raises:
            ConfigError: If the tasks differ in them.
        """
        (segments, *others) = {task.segments for task in self.tasks}
        if others:
            raise ConfigError(
                f"The tasks of {self.name} divide a prompt differently among the places of their inputs; one prompt of "
                "all needs the same places in each."
            )
        return segments

    def counted(self, rows: Mapping[str, int]) -> dict[str, int]:
        """The rows that each task counts with: its own, up to the limit.

        Args:
            rows: Training rows by the tasks' names.
        """
        return {task.name: min(rows[task.name], self.limit or rows[task.name]) for task in self.tasks}

    def shares(self, rows: Mapping[str, int]) -> dict[str, float]:
        """The share of each task in what is trained on; they add up to 1.

        Args:
            rows: Training rows by the tasks' names.
        """
        root = {"proportional": 1.0, "temperature": 1 / (self.temperature or 1), "equal": 0.0}[self.mixing]
        weights = {name: count**root for name, count in self.counted(rows).items()}
        total = math.fsum(weights.values())
        return {name: weight / total for name, weight in weights.items()}

    def settings(self) -> dict[str, Any]:
        """How it mixes, as plain values."""
        return {"mixing": self.mixing, "temperature": self.temperature, "limit": self.limit}
