"""Gradients and losses are summed over processes; several real ones are in `tests/training`."""

from __future__ import annotations

import pytest
import torch

from softprompt.loop import processes as processes_module
from softprompt.loop.processes import Processes
from softprompt.training.summing import sum_step


def test_what_another_process_found_is_added(monkeypatch):
    """The other one has a gradient where this one has none; where neither has, none is made up."""
    here, there, nowhere = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    here.grad = torch.tensor([1.0, 2.0])
    others = torch.tensor([0.5, 0.0, 1.0, 0.0, 0.0, 0.0, 5.0, 6.0, 0.0, 0.0])
    monkeypatch.setattr(processes_module, "reduce", lambda tensor, how: tensor + others)
    both = Processes()
    monkeypatch.setattr(both, "count", 2)
    losses = sum_step(both, [here, there, nowhere], {"a": 0.25})
    assert losses == {"a": 0.75}
    assert here.grad.tolist() == [1.0, 2.0]
    assert there.grad.tolist() == [5.0, 6.0]
    assert nowhere.grad is None


def test_alone_nothing_is_sent(monkeypatch):
    monkeypatch.setattr(processes_module, "reduce", lambda *given: pytest.fail("reduced"))
    parameter = torch.nn.Parameter(torch.zeros(2))
    assert sum_step(Processes(), [parameter], {"a": 1.0}) == {"a": 1.0}
    assert parameter.grad is None
