"""Multitask prompt tuning: one shared prompt, and for each task factors of low rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from softprompt.errors import ConfigError
from softprompt.prompts import initializers, registry
from softprompt.prompts.host import Host, LabelledTask
from softprompt.prompts.methods.building import describe, gather, place
from softprompt.prompts.methods.rows import RowsMethod
from softprompt.prompts.parameters import SharedRows, TaskRows
from softprompt.prompts.prompt import SoftPrompt

__all__ = ["MultitaskPrompt"]


@dataclass(frozen=True, kw_only=True)
class MultitaskPrompt(RowsMethod):
    """Rows at the input embedding, one prompt for each of several tasks (Wang et al. 2023).

    A task's rows are those of a shared prompt, multiplied entry by entry with the task's own matrix of low rank. Every
    matrix begins as ones, so that all tasks start from the shared prompt. What is stored are rows, like those of prompt
    tuning, of each task and of the shared prompt (`shared/NAME` in a session's folder). To take what was learned to a
    new task, start from the shared prompt: `init="prompt"`, `source="out/shared/NAME"`.

    Of the paper this is the decomposition, learned on all tasks at once. Not here: the distillation from prompts that
    were trained on each task alone (§3.2), and rates of their own for shared rows and factors.

    Attributes, besides those of `RowsMethod`, whose start is that of the shared rows:
        rank: Rank of a task's matrix.

    Raises:
        ConfigError: If a setting is unknown or out of range; `init` is looked up when a prompt is built.

    References:
        Wang et al. 2023, "Multitask Prompt Tuning Enables Parameter-Efficient Transfer Learning", §3.
    """

    rank: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise ConfigError(f"rank={self.rank}: expected at least 1.")

    def build(self, backbone: Host, task: LabelledTask | None = None, seed: int = 0) -> SoftPrompt:
        """Make an untrained prompt for a single task, with a shared part and factors of its own.

        Args:
            backbone: The frozen model that it is for.
            task: A task, whose label words `init="class_labels"` starts from.
            seed: Of everything random.

        Raises:
            ConfigError: As of `build_all`.
        """
        return self.build_all(backbone, {"": task}, seed)[""]

    def build_all(
        self, backbone: Host, tasks: Mapping[str, LabelledTask | None], seed: int = 0
    ) -> dict[str, SoftPrompt]:
        """Make an untrained prompt for each of several tasks; their modules share the shared rows.

        Args:
            backbone: The frozen model that they are for.
            tasks: By name; the label words of the first are what `init="class_labels"` starts from.
            seed: Of everything random.

        Raises:
            ConfigError: If the initializer is unknown or lacks what it starts from, or a task's template divides
                another number of rows.
        """
        generator = torch.Generator().manual_seed(seed)
        first = next(iter(tasks.values()))
        shared = SharedRows(initializers.find(self.init)(gather(self, backbone, first, generator)))
        return {
            name: SoftPrompt(
                TaskRows(shared, rank=self.rank, generator=generator), place(self, task), describe(self, backbone)
            )
            for name, task in tasks.items()
        }


registry.register("multitask", MultitaskPrompt)
