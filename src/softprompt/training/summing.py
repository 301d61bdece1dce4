"""What processes that share a step's rows add up: gradients and losses, each a sum over the rows of its own process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from softprompt.loop.processes import Processes

__all__ = ["sum_step"]


def sum_step(processes: Processes, parameters: Sequence[nn.Parameter], losses: Mapping[str, float]) -> dict[str, float]:
    """Sum gradients, in place, and losses over all processes, in one message.

    A parameter that has a gradient in no process keeps none.

    Args:
        processes: Those that share the step.
        parameters: The same in every process.
        losses: By run, the same runs in every process.

    Returns:
        The losses.
    """
    if processes.count == 1:
        return dict(losses)
    told = torch.tensor([*losses.values(), *(p.grad is not None for p in parameters)], dtype=torch.float32)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    summed, *sums = processes.sum([told, *gradients])
    values, reached = summed[: len(losses)].tolist(), summed[len(losses) :].tolist()
    for parameter, gradient, found in zip(parameters, sums, reached, strict=True):
        parameter.grad = gradient if found else None
    return dict(zip(losses, values, strict=True))
