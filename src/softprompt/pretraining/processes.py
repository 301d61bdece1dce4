"""The processes that share a pre-training: each takes its rows of a batch, and all take the same step."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TypeVar, final

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env, reduce
from torch import Tensor, nn

__all__ = ["Processes"]

T = TypeVar("T")

# The others wait for the first one while it tokenises, measures and writes.
_PATIENCE = timedelta(hours=2)


@final
class Processes:
    """Those that `accelerate launch` or `torchrun` started together; a program started alone is the only one.

    Of accelerate it uses what finds devices and lets processes talk. The precision, which accelerate fixes for
    the whole life of a process, stays with the run.

    Attributes:
        device: Where this process computes.
        count: How many there are.
        first: Whether this is the one that measures, writes and reports.
    """

    def __init__(self) -> None:
        on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
        self._state = PartialState(cpu=on_cpu, timeout=_PATIENCE)
        self.device: torch.device = self._state.device
        self.count: int = self._state.num_processes
        self.first: bool = self._state.is_main_process

    def share(self, rows: np.ndarray) -> np.ndarray:
        """This process's rows of a batch: `[batch, ...]` -> `[batch / count, ...]`."""
        size = len(rows) // self.count
        return rows[self._state.process_index * size :][:size]

    def average(self, model: nn.Module, loss: Tensor) -> Tensor:
        """Average the gradients over all processes, in place, and the loss, which is returned, in one message."""
        if self.count == 1:
            return loss
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        parts = [*gradients, loss.detach()]
        averaged = reduce(torch.cat([part.flatten() for part in parts]), "mean")
        *means, mean_loss = averaged.split([part.numel() for part in parts])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))
        return mean_loss

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return flag if self.count == 1 else bool(reduce(torch.tensor(float(flag), device=self.device), "max"))

    def from_first(self, value: T) -> T:
        """What the first process has; the others wait for it."""
        return broadcast_object_list([value])[0]

    def first_alone(self) -> AbstractContextManager[None]:
        """A block that the first process goes through alone; the others follow."""
        return self._state.main_process_first()

    def wait(self) -> None:
        """Wait until every process is here."""
        self._state.wait_for_everyone()
