"""Learning-rate schedules."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from softprompt.errors import ConfigError
from softprompt.loop import schedules
from softprompt.loop.schedules import build_schedule, rate_share, register_schedule, schedule_names


def shares(name: str, warmup: int, total: int) -> list[float]:
    return [rate_share(name, step, warmup_steps=warmup, total_steps=total) for step in range(total + 1)]


def test_shapes_at_known_points() -> None:
    assert shares("constant", 2, 6) == [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert shares("linear", 2, 6) == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    assert shares("cosine", 0, 4) == pytest.approx([1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0])
    assert shares("inverse_sqrt", 4, 16)[4::4] == pytest.approx([1, math.sqrt(1 / 2), math.sqrt(1 / 3), 0.5])


@given(st.sampled_from(schedule_names()), st.integers(0, 30), st.integers(1, 60))
def test_every_schedule_rises_to_the_full_rate_and_never_rises_again(name: str, warmup: int, more: int) -> None:
    values = shares(name, warmup, warmup + more)
    assert all(0 < value <= 1 for value in values[:-1])
    assert max(values) == pytest.approx(1)
    assert values[:warmup] == sorted(values[:warmup])
    assert values[warmup:] == sorted(values[warmup:], reverse=True)


@pytest.mark.parametrize("name", schedule_names())
def test_the_optimizer_follows_group_by_group(name: str) -> None:
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([{"params": [a]}, {"params": [b], "lr": 3.0}], lr=0.5)
    schedule = build_schedule(name, optimizer, warmup_steps=3, total_steps=8)
    for step in range(8):
        share = rate_share(name, step, warmup_steps=3, total_steps=8)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5 * share, 3.0 * share])
        optimizer.step()
        schedule.step()


def test_bad_settings_are_refused() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    for call in (
        lambda: rate_share("cosin", 0, warmup_steps=0, total_steps=1),
        lambda: build_schedule("cosin", optimizer, warmup_steps=0, total_steps=1),
    ):
        with pytest.raises(ConfigError, match=r"Unknown schedule 'cosin'\. Did you mean 'cosine'\? Known: constant"):
            call()
    for warmup in (-1, 11):
        with pytest.raises(ConfigError, match=f"between 0 and the 10 steps trained, not {warmup}"):
            build_schedule("linear", optimizer, warmup_steps=warmup, total_steps=10)


def halved(step: int, warmup: int, total: int) -> float:
    return 0.5 ** (step - warmup)


def test_a_schedule_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules.SCHEDULES, "_values", dict(schedules.SCHEDULES._values))
    register_schedule("halved", halved)
    assert schedule_names() == ("constant", "cosine", "halved", "inverse_sqrt", "linear")
    assert shares("halved", 2, 5) == [0.5, 1.0, 1.0, 0.5, 0.25, 0.125]
    with pytest.raises(ConfigError, match="The schedule 'halved' is taken"):
        register_schedule("halved", shares)
