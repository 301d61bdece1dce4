"""Successive halving: the worse half of a session's runs is stopped at given steps."""

from __future__ import annotations

import pytest
from tests.training.sessions import short_run, trained

from softprompt.errors import ConfigError
from softprompt.training import TrainConfig


def runs(**settings):
    return [
        short_run(f"run{i}", seed=i, learning_rate=0.02 * 4**i, steps=8, **{"evaluate_every": None, **settings})
        for i in range(5)
    ]


def test_the_worse_half_is_stopped_each_time():
    result = trained("decoder-only", runs(), halve_at=[2, 4])
    last = {name: run.history[-1]["step"] for name, run in result.items()}
    assert sorted(last.values()) == [2, 2, 4, 8, 8]
    at_2 = {name: run.history[1]["accuracy"] for name, run in result.items()}
    kept = [name for name, step in last.items() if step > 2]
    assert min(at_2[name] for name in kept) >= max(at_2[name] for name in result if name not in kept)
    for name, run in result.items():
        assert run.status == ("finished" if last[name] == 8 else "stopped early")
        assert run.reason == ("" if last[name] == 8 else f"among the worse half after step {last[name]}")


def test_runs_that_stay_are_as_they_would_have_been():
    alone = trained("decoder-only", runs())
    halved = trained("decoder-only", runs(), halve_at=[2])
    for name, run in halved.items():
        if run.status == "finished":
            losses = [entry["loss"] for entry in alone[name].history]
            assert [entry["loss"] for entry in run.history] == pytest.approx(losses, rel=1e-4)


def test_what_cannot_be_compared():
    with pytest.raises(ConfigError, match=r"halve_at=\[4, 2\]: expected ascending steps from 1"):
        TrainConfig(halve_at=[4, 2])
    with pytest.raises(ConfigError, match="one has evaluate_every=0 and is never evaluated"):
        trained("decoder-only", runs(evaluate_every=0), halve_at=[2])
    with pytest.raises(ConfigError, match="halve_at compares runs, but they watch accuracy, macro_f1"):
        trained("decoder-only", [short_run("a", evaluate_every=None), *runs(metric="macro_f1")], halve_at=[2])
