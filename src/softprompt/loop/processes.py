"""The processes that share a training: each takes its part of a step's rows, and all take the same step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TypeVar, final

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env, reduce
from torch import Tensor, nn

from softprompt.backbones.launch import LAUNCHED, process_count
from softprompt.errors import ConfigError, LostProcessError, SoftpromptError

__all__ = ["Processes"]

T = TypeVar("T")

# The others wait for the first one while it tokenises, measures and writes. A process that dies is noticed at once,
# as its connections close; this bounds how long one that hangs is waited for.
_PATIENCE = timedelta(hours=2)


@final
class Processes:
    """Those that `accelerate launch` or `torchrun` started together; a program started alone is the only one.

    Of accelerate it uses what finds devices and lets processes talk. The precision, which accelerate fixes for
    the whole life of a process, stays with the run.

    Attributes:
        device: Where this process computes.
        count: How many there are.
        index: Which of them this is, from 0.
        first: Whether this is the one that measures, writes and reports.

    Raises:
        ConfigError: If a launcher started several that do not find each other.
    """

    def __init__(self) -> None:
        on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
        count = process_count()
        self._state = _joined(count, on_cpu=on_cpu) if count > 1 else None
        self.count: int = count
        self.index: int = self._state.process_index if self._state else 0
        self.first: bool = self.index == 0
        self.device: torch.device = self._state.device if self._state else _own_device(on_cpu=on_cpu)

    def share(self, rows: np.ndarray) -> np.ndarray:
        """This process's rows of a batch: `[batch, ...]` -> `[batch / count, ...]`."""
        size = len(rows) // self.count
        return rows[self.index * size :][:size]

    def average(self, model: nn.Module, loss: Tensor) -> Tensor:
        """Average the gradients over all processes, in place, and the loss, which is returned, in one message."""
        if self.count == 1:
            return loss
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        *means, mean_loss = self._reduced([*gradients, loss.detach()], "mean")
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean)
        return mean_loss

    def sum(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """The sums of tensors over all processes, in one message.

        Args:
            parts: Of the same shapes and one dtype in every process.

        Returns:
            The sums, the same to the last bit in every process.
        """
        return list(parts) if self.count == 1 else self._reduced(parts, "sum")

    def _reduced(self, parts: Sequence[Tensor], how: str) -> list[Tensor]:
        made = reduce(torch.cat([part.flatten().to(self.device) for part in parts]), how)
        split = made.split([part.numel() for part in parts])
        return [one.view_as(part).to(part.device) for one, part in zip(split, parts, strict=True)]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return flag if self.count == 1 else bool(reduce(torch.tensor(float(flag), device=self.device), "max"))

    def gather(self, value: T) -> list[T]:
        """What each process has, in their order; a value must be one that can be pickled."""
        return [value] if self.count == 1 else gather_object([value])

    def from_first(self, value: T) -> T:
        """What the first process has; the others wait for it."""
        return value if self.count == 1 else broadcast_object_list([value])[0]

    def first_does(self, work: Callable[[], T]) -> T:
        """What a function gives in the first process, which alone calls it; the others wait for it.

        Raises:
            SoftpromptError: If the function raises one: in every process.
            LostProcessError: In the others, if it raises anything else in the first.
        """
        if self.count == 1:
            return work()
        made, failure = self._attempted(work) if self.first else (None, None)
        made, failed = self.from_first((made, _tellable(failure)))
        if failure is not None:
            raise failure
        if failed is not None:
            raise failed
        return made  # type: ignore[return-value]

    @staticmethod
    def _attempted(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
        try:
            return work(), None
        except Exception as error:
            return None, error

    def first_alone(self) -> AbstractContextManager[None]:
        """A block that the first process goes through alone; the others follow."""
        return self._state.main_process_first() if self._state else nullcontext()

    def wait(self) -> None:
        """Wait until every process is here."""
        if self._state:
            self._state.wait_for_everyone()


def _joined(count: int, *, on_cpu: bool) -> PartialState:
    """What accelerate makes of the processes, once all have met.

    Raises:
        ConfigError: If they do not find each other.
    """
    try:
        state = PartialState(cpu=on_cpu, timeout=_PATIENCE)
    except (ValueError, RuntimeError) as error:
        PartialState._reset_state()  # it would pass for whole the next time
        raise ConfigError(
            f"{count} processes were started together, but do not find each other ({error}); start them by torchrun or"
            f" accelerate launch, or unset {', '.join(LAUNCHED)} to go on in one."
        ) from error
    if state.num_processes != count:
        raise ConfigError(
            f"torch.distributed has a group of {count} processes, but accelerate knows of {state.num_processes}; start"
            f" them by torchrun or accelerate launch, which set {', '.join(LAUNCHED)}."
        )
    return state


def _own_device(*, on_cpu: bool) -> torch.device:
    """Where a program started alone computes."""
    found = None if on_cpu else torch.accelerator.current_accelerator()
    return torch.device("cpu") if found is None else found


def _tellable(failure: Exception | None) -> SoftpromptError | None:
    """An error that can be sent to other processes; those of other libraries may not be."""
    if failure is None or isinstance(failure, SoftpromptError):
        return failure
    return LostProcessError(f"The first process failed: {failure!r}; mend that, and run the same command again.")
