"""Learning-rate schedules: a name and a step give the share of the highest rate.

Each shape is a plain function of progress after the warm-up, which rises linearly from the first step on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch.optim.lr_scheduler import LambdaLR

from softprompt.config import choose
from softprompt.errors import ConfigError

__all__ = ["SCHEDULES", "build_schedule", "rate_share"]


def _constant(step: int, warmup: int, total: int) -> float:
    return 1.0


def _linear(step: int, warmup: int, total: int) -> float:
    return max(0.0, (total - step) / max(1, total - warmup))


def _cosine(step: int, warmup: int, total: int) -> float:
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _inverse_sqrt(step: int, warmup: int, total: int) -> float:
    return math.sqrt(max(1, warmup) / max(1, warmup, step))


SCHEDULES: Mapping[str, Callable[[int, int, int], float]] = MappingProxyType(
    {"constant": _constant, "linear": _linear, "cosine": _cosine, "inverse_sqrt": _inverse_sqrt}
)


def rate_share(name: str, step: int, *, warmup_steps: int, total_steps: int) -> float:
    """Share of the highest rate that the step numbered `step`, from 0, is taken with.

    Linear and cosine reach 0 after the last step, so that every step still moves; `inverse_sqrt` is
    `sqrt(warmup / step)` (Raffel et al. 2020, §3.1.2).

    Raises:
        ConfigError: If the name is unknown.
    """
    if name not in SCHEDULES:
        raise choose("schedule", name, SCHEDULES)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return SCHEDULES[name](step, warmup_steps, total_steps)


def build_schedule(name: str, optimizer: torch.optim.Optimizer, *, warmup_steps: int, total_steps: int) -> LambdaLR:
    """A schedule that scales an optimizer's rates; call `step()` after each step of the optimizer.

    Args:
        name: A key of `SCHEDULES`.
        optimizer: Whose rates are the highest ones.
        warmup_steps: Steps of linear rise, 0 for none.
        total_steps: Steps of the whole training, the warm-up included.

    Raises:
        ConfigError: If the name is unknown, or the warm-up is negative or longer than the training.
    """
    if name not in SCHEDULES:
        raise choose("schedule", name, SCHEDULES)
    if not 0 <= warmup_steps <= total_steps:
        raise ConfigError(f"warmup_steps must lie between 0 and the {total_steps} steps trained, not {warmup_steps}.")
    return LambdaLR(optimizer, lambda step: rate_share(name, step, warmup_steps=warmup_steps, total_steps=total_steps))
