"""Optimizers by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from softprompt.errors import ConfigError
from softprompt.loop import optimizers
from softprompt.loop.optimizers import build_optimizer, optimizer_names, register_optimizer


def step(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, gradient: torch.Tensor) -> torch.Tensor:
    before = parameter.detach().clone()
    parameter.grad = gradient
    optimizer.step()
    return before - parameter.detach()


def test_adafactor_steps_as_the_papers_settings_say() -> None:
    """Lester et al. 2021: a constant rate, no parameter scaling, no relative step; factored second moments, clipped."""
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.randn(4, 6) * 100)  # parameter scaling would make the step a hundred times larger
    gradient = torch.randn(4, 6)
    before = parameter.detach().clone()
    optimizer = build_optimizer("adafactor", [parameter], learning_rate=0.3, weight_decay=1e-5)
    moved = step(optimizer, parameter, gradient)
    square = gradient.square() + 1e-30
    factored = square.mean(1, keepdim=True) * square.mean(0, keepdim=True) / square.mean()  # decay is 0 at step 1
    update = gradient / factored.sqrt()
    update = update / max(1.0, update.square().mean().sqrt().item())
    torch.testing.assert_close(moved, 0.3 * update + 0.3 * 1e-5 * before, rtol=1e-4, atol=1e-5)


def test_adafactor_forgets_with_exponent_four_fifths() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = build_optimizer("adafactor", [parameter], learning_rate=0.1, weight_decay=0.0)
    step(optimizer, parameter, torch.tensor([1.0]))
    step(optimizer, parameter, torch.tensor([3.0]))
    kept = 1 - 2**-0.8
    assert optimizer.state[parameter]["exp_avg_sq"].item() == pytest.approx(kept * 1 + (1 - kept) * 9)


def test_adamw_decays_apart_from_the_gradient() -> None:
    parameter = nn.Parameter(torch.tensor([2.0]))
    optimizer = build_optimizer("adamw", [parameter], learning_rate=0.01, weight_decay=0.5)
    moved = step(optimizer, parameter, torch.tensor([123.0]))
    assert moved.item() == pytest.approx(0.01 + 0.01 * 0.5 * 2.0, rel=1e-4)


@pytest.mark.parametrize("name", optimizer_names())
def test_groups_bring_their_own_settings(name: str) -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    groups = [{"params": [a]}, {"params": [b], "lr": 0.5, "weight_decay": 0.0}]
    optimizer = build_optimizer(name, groups, learning_rate=0.1, weight_decay=0.2)
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.1, 0.2), (0.5, 0.0)]


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"Unknown optimizer 'adamv'. Did you mean 'adamw'\? Known: adafactor, adamw"):
        build_optimizer("adamv", [nn.Parameter(torch.ones(1))], learning_rate=0.1, weight_decay=0.0)


def plain_descent(parameters: object, *, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=learning_rate, weight_decay=weight_decay)  # type: ignore[arg-type]


def test_an_optimizer_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers.OPTIMIZERS, "_values", dict(optimizers.OPTIMIZERS._values))
    register_optimizer("descent", plain_descent)
    assert optimizer_names() == ("adafactor", "adamw", "descent")
    built = build_optimizer("descent", [nn.Parameter(torch.ones(1))], learning_rate=0.25, weight_decay=0.0)
    assert isinstance(built, torch.optim.SGD)
    assert built.param_groups[0]["lr"] == 0.25
    with pytest.raises(ConfigError, match="The optimizer 'descent' is taken"):
        register_optimizer("descent", optimizers.adamw)
