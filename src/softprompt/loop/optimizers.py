"""Optimizers by name: plain functions of one signature, which other packages can add to.

Third parties add theirs through the entry-point group `softprompt.optimizers`, or with `register_optimizer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from transformers.optimization import Adafactor

from softprompt.registry import Registry

__all__ = ["OPTIMIZERS", "adafactor", "adamw", "build_optimizer", "optimizer_names", "register_optimizer"]

# Either parameters, or groups of them as torch takes them, whose own settings win over the function's.
Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]
OptimizerFactory = Callable[..., torch.optim.Optimizer]


def adafactor(parameters: Parameters, *, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Adafactor as prompt tuning uses it: a given rate, without parameter scaling, relative steps or warm-up.

    References:
        Lester et al. 2021, §3 and appendix A.2; Shazeer and Stern 2018 (decay exponent 0.8).
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
    """AdamW with torch's defaults, as one kernel for all parameters.

    References:
        Loshchilov and Hutter 2019, algorithm 2.
    """
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)


OPTIMIZERS: Registry[OptimizerFactory] = Registry(
    "optimizer", "softprompt.optimizers", {"adafactor": adafactor, "adamw": adamw}
)


def register_optimizer(name: str, factory: OptimizerFactory) -> None:
    """Add an optimizer of your own.

    Args:
        name: What runs call it.
        factory: Called with parameters and, by keyword, `learning_rate` and `weight_decay`.

    Raises:
        ConfigError: If the name already stands for another optimizer.
    """
    OPTIMIZERS.add(name, factory)


def optimizer_names() -> tuple[str, ...]:
    """All known optimizers, sorted."""
    return OPTIMIZERS.names()


def build_optimizer(
    name: str, parameters: Parameters, *, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """An optimizer over some parameters.

    Args:
        name: One of `optimizer_names()`.
        parameters: What it trains; groups of parameters may bring their own settings.
        learning_rate: Highest rate; a schedule scales it.
        weight_decay: Decoupled from the gradient, and multiplied by the rate.

    Raises:
        ConfigError: If the name is unknown, or its optimizer does not load.
    """
    return OPTIMIZERS.get(name)(parameters, learning_rate=learning_rate, weight_decay=weight_decay)
