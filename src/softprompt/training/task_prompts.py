"""Prompts that one run learned for several tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import final

from softprompt.prompts import SoftPrompt

__all__ = ["TaskPrompts"]


@final
class TaskPrompts(Mapping[str, SoftPrompt]):
    """Prompts by their tasks' names.

    Attributes:
        shared: What they have in common, as a prompt of its own for a new task to start from; None if nothing is.
    """

    def __init__(self, prompts: Mapping[str, SoftPrompt], shared: SoftPrompt | None = None) -> None:
        self._prompts = dict(prompts)
        self.shared = shared

    def __getitem__(self, task: str) -> SoftPrompt:
        return self._prompts[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self._prompts)

    def __len__(self) -> int:
        return len(self._prompts)
