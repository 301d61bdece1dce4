"""Runs of one session end as they would alone."""

from __future__ import annotations

import dataclasses

import pytest
from tests.training.sessions import (
    calm_backbone,
    difference,
    moved,
    placed_runs,
    sentiment,
    short_run,
    trained,
    varied_runs,
)

from softprompt.errors import ConfigError
from softprompt.prompts import PromptTuning, SoftPrompt
from softprompt.prompts.methods.building import embed_text
from softprompt.training import Run, TrainResult

KINDS = ("decoder-only", "encoder-decoder", "encoder-only")


def shorter_runs(kind: str) -> list[Run]:
    """The varied runs with half of their steps; some go through their rows twice."""
    return [dataclasses.replace(run, steps=run.steps // 2) for run in varied_runs(kind)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("several", "steps"), [(shorter_runs, 10), pytest.param(placed_runs, 8, marks=pytest.mark.slow)]
)
def test_runs_together_end_as_alone(several, steps, kind):
    runs = [dataclasses.replace(run, evaluate_every=0) for run in several(kind)]
    together = trained(kind, runs)
    assert together.steps == steps
    for run in runs:
        alone = trained(kind, [run])[run.name]
        beside = together[run.name]
        assert difference(beside.prompt, alone.prompt) < 1e-4, run.name
        assert moved(run, kind, alone.prompt) > 0.05, run.name
        assert beside.history == [
            {**entry, **{key: pytest.approx(entry[key], rel=1e-5) for key in ("loss", "penalty") if key in entry}}
            for entry in alone.history
        ], run.name
        assert len(alone.history) == beside.best_step == run.steps


def test_the_comparison_would_see_another_data_order():
    """The same start and the same rows, in another order: far more than rounding apart."""
    task = sentiment()
    one, other = short_run(task=task, batch_size=3), short_run(task=task, batch_size=4)
    found = trained("decoder-only", [one])["a"].prompt
    assert difference(found, trained("decoder-only", [other])["a"].prompt) > 1e-2
    assert difference(found, trained("decoder-only", [one])["a"].prompt) == 0


def test_evaluations_together_are_those_alone():
    runs = [dataclasses.replace(run, evaluate_every=6) for run in varied_runs("decoder-only")[:3]]
    together = trained("decoder-only", runs)
    for run in runs:
        alone = trained("decoder-only", [run])[run.name]
        assert together[run.name].metrics == alone.metrics
        assert together[run.name].best_step == alone.best_step
        assert difference(together[run.name].prompt, alone.prompt) < 1e-4


@pytest.mark.parametrize("names", [[], ["a", "b", "a"]])
def test_runs_need_names_of_their_own(names):
    with pytest.raises(ConfigError, match="train needs runs with names of their own; got"):
        trained("decoder-only", [short_run(name) for name in names])


def test_results_are_found_by_name():
    result = trained("decoder-only", [short_run("left"), short_run("right", steps=2)])
    assert isinstance(result, TrainResult)
    assert list(result) == ["left", "right"]
    assert [run.best_step for run in result.values()] == [4, 2]
    assert result.seconds > 0
    with pytest.raises(KeyError, match=r"Unknown run 'lift'\. Did you mean 'left'"):
        result["lift"]


def test_results_are_a_mapping():
    """An unknown name was a ConfigError, which neither `in` nor `get` knows as what it is."""
    result = trained("decoder-only", [short_run("left", steps=1)])
    assert "left" in result
    assert "lift" not in result
    assert result.get("left") is result["left"]
    assert result.get("lift") is None


def test_training_with_a_penalty_ends_nearer_to_the_words():
    """Nothing but its value was looked at: without its gradient, training was the same."""
    anchor = embed_text(calm_backbone("decoder-only"), "good or bad", 4)

    def end(weight: float) -> SoftPrompt:
        method = PromptTuning(length=4, init="vocab", towards="good or bad", towards_weight=weight)
        return trained("decoder-only", [short_run(method=method, optimizer="adamw", steps=10)])["a"].prompt

    free, held = end(0.0), end(10.0)
    plain = trained(
        "decoder-only", [short_run(method=PromptTuning(length=4, init="vocab"), optimizer="adamw", steps=10)]
    )
    assert difference(free, plain["a"].prompt) == 0
    distances = [float((prompt().rows.detach() - anchor).norm()) for prompt in (free, held)]
    assert distances[1] < 0.8 * distances[0]
