"""Learning-rate schedules: a name and a step give the share of the highest rate.

Each shape is a plain function of progress after the warm-up, which rises linearly from the first step on. Third
parties add theirs through the entry-point group `softprompt.schedules`, or with `register_schedule`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.optim.lr_scheduler import LambdaLR

from softprompt.errors import ConfigError
from softprompt.registry import Registry

__all__ = ["SCHEDULES", "Schedule", "build_schedule", "rate_share", "register_schedule", "schedule_names"]

Schedule = Callable[[int, int, int], float]
"""From a step, from 0, the steps of warm-up, and all steps to the share of the highest rate, from 0 to 1."""


def _constant(step: int, warmup: int, total: int) -> float:
    return 1.0


def _linear(step: int, warmup: int, total: int) -> float:
    return max(0.0, (total - step) / max(1, total - warmup))


def _cosine(step: int, warmup: int, total: int) -> float:
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _inverse_sqrt(step: int, warmup: int, total: int) -> float:
    return math.sqrt(max(1, warmup) / max(1, warmup, step))


SCHEDULES: Registry[Schedule] = Registry(
    "schedule",
    "softprompt.schedules",
    {"constant": _constant, "cosine": _cosine, "inverse_sqrt": _inverse_sqrt, "linear": _linear},
)


def register_schedule(name: str, schedule: Schedule) -> None:
    """Add a schedule of your own.

    Args:
        name: What runs call it.
        schedule: A plain function of the step, from 0, the steps of warm-up, and all steps; it is not asked during
            the warm-up.

    Raises:
        ConfigError: If the name already stands for another schedule.
    """
    SCHEDULES.add(name, schedule)


def schedule_names() -> tuple[str, ...]:
    """All known schedules, sorted."""
    return SCHEDULES.names()


def rate_share(name: str, step: int, *, warmup_steps: int, total_steps: int) -> float:
    """Share of the highest rate that the step numbered `step`, from 0, is taken with.

    Linear and cosine reach 0 after the last step, so that every step still moves; `inverse_sqrt` is
    `sqrt(warmup / step)` (Raffel et al. 2020, §3.1.2).

    Raises:
        ConfigError: If the name is unknown, or its schedule does not load.
    """
    shape = SCHEDULES.get(name)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return shape(step, warmup_steps, total_steps)


def build_schedule(name: str, optimizer: torch.optim.Optimizer, *, warmup_steps: int, total_steps: int) -> LambdaLR:
    """A schedule that scales an optimizer's rates; call `step()` after each step of the optimizer.

    Args:
        name: One of `schedule_names()`.
        optimizer: Whose rates are the highest ones.
        warmup_steps: Steps of linear rise, 0 for none.
        total_steps: Steps of the whole training, the warm-up included.

    Raises:
        ConfigError: If the name is unknown, its schedule does not load, or the warm-up is negative or longer than the
            training.
    """
    if not 0 <= warmup_steps <= total_steps:
        raise ConfigError(f"warmup_steps must lie between 0 and the {total_steps} steps trained, not {warmup_steps}.")
    return LambdaLR(optimizer, lambda step: rate_share(name, step, warmup_steps=warmup_steps, total_steps=total_steps))
