"""Optimizers by name: plain functions of one signature, which other packages can add to.

A third party registers its own under the entry-point group `softprompt.optimizers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from transformers.optimization import Adafactor

from softprompt.config import choose

__all__ = ["OPTIMIZERS", "adafactor", "adamw", "build_optimizer", "optimizer_names"]

_GROUP = "softprompt.optimizers"
# Either parameters, or groups of them as torch takes them, whose own settings win over the function's.
Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]
OptimizerFactory = Callable[..., torch.optim.Optimizer]


def adafactor(parameters: Parameters, *, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Adafactor as prompt tuning uses it: a given rate, without parameter scaling, relative steps or warm-up.

    References:
        Lester et al. 2021, §3.1 and appendix A.2; Shazeer and Stern 2018 (decay exponent 0.8).
    """
    return Adafactor(
        parameters,
        lr=learning_rate,
        decay_rate=-0.8,
        weight_decay=weight_decay,
        scale_parameter=False,
        relative_step=False,
        warmup_init=False,
    )


def adamw(parameters: Parameters, *, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW with torch's defaults.

    References:
        Loshchilov and Hutter 2019, algorithm 2.
    """
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)


OPTIMIZERS: Mapping[str, OptimizerFactory] = MappingProxyType({"adafactor": adafactor, "adamw": adamw})


def optimizer_names() -> list[str]:
    """Every name that `build_optimizer` knows, those of other packages included."""
    return sorted({*OPTIMIZERS, *(entry.name for entry in entry_points(group=_GROUP))})


def build_optimizer(
    name: str, parameters: Parameters, *, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """An optimizer over some parameters.

    Args:
        name: A key of `OPTIMIZERS`, or an entry point of the group `softprompt.optimizers`.
        parameters: What it trains; groups of parameters may bring their own settings.
        learning_rate: Highest rate; a schedule scales it.
        weight_decay: Decoupled from the gradient, and multiplied by the rate.

    Raises:
        ConfigError: If the name is unknown.
    """
    factory = OPTIMIZERS.get(name)
    if factory is None:
        found = entry_points(group=_GROUP, name=name)
        if not found:
            raise choose("optimizer", name, optimizer_names())
        factory = next(iter(found)).load()
    return factory(parameters, learning_rate=learning_rate, weight_decay=weight_decay)
