"""The bootstrap: fast paths equal the metric computed anew."""

from __future__ import annotations

import numpy as np
import pytest

from softprompt.evaluation import resampling
from softprompt.evaluation.resampling import bootstrap, mean_of, resampled_metric
from softprompt.tasks import get_metric, metric_names

SAID = [
    "the film was good .", "a city pub", "Good", "", "the river", "it serves cheap food near the river", "bad",
    "bad good",
]  # fmt: skip
TRUE = [
    ("the film was very good .", "a good film ."), ("a cheap city pub", "a pub"), ("good",), ("fish",), ("river",),
    ("it serves food near the river",), ("good",), ("bad",),
]  # fmt: skip
DRAW = np.random.default_rng(0)


def rows_for(name: str) -> tuple[list[str], list[tuple[str, ...]]]:
    if name != "macro_f1":
        return SAID, TRUE
    # few rows: in some draws a class is missing, and does not count
    return ["good", "bad", "no label", "sad", "good"], [("good",), ("bad",), ("bad",), ("good",), ("sad",)]


@pytest.mark.parametrize("name", metric_names())
def test_a_draw_scores_as_the_metric_scores_the_drawn_rows(name):
    said, true = rows_for(name)
    scores = resampled_metric(name, said, true)
    for _ in range(12):
        drawn = DRAW.integers(0, len(said), len(said))
        expected = get_metric(name)([said[i] for i in drawn], [true[i] for i in drawn])
        counts = np.bincount(drawn, minlength=len(said))
        assert {key: score(counts) for key, score in scores.items()} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", metric_names())
def test_no_metric_of_ours_is_computed_anew_for_each_draw(name, monkeypatch):
    said, true = rows_for(name)
    scores = resampled_metric(name, said, true)

    def refuse(name):
        raise AssertionError(f"{name} was computed again")

    monkeypatch.setattr(resampling, "get_metric", refuse)
    assert len(bootstrap(scores, len(said), resamples=3, seed=0)[next(iter(scores))]) == 3


def test_a_metric_that_is_no_mean_over_rows_is_computed_anew(monkeypatch):
    def different(predictions, references):
        return {"different": 100 * len(set(predictions)) / len(predictions)}

    monkeypatch.setattr(resampling, "get_metric", lambda name: different)
    (score,) = resampled_metric("different", ["a", "a", "b", "c"], [("x",)] * 4).values()
    assert score(np.array([2, 2, 0, 0])) == 25
    assert score(np.array([1, 1, 1, 1])) == 75


def test_a_shortcut_that_is_wrong_is_not_taken(monkeypatch):
    wrong = {"accuracy": lambda predictions, references: {"accuracy": lambda counts: 50.0}}
    monkeypatch.setattr(resampling, "_SHORTCUTS", wrong)
    score = resampled_metric("accuracy", ["a", "b"], [("a",), ("b",)])["accuracy"]
    assert score(np.array([1, 1])) == 100


def test_draws_depend_on_the_seed_alone():
    values = mean_of(np.arange(20.0))
    first, again, other = (bootstrap({"x": values}, 20, resamples=50, seed=seed)["x"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert abs(first.mean() - 9.5) < 1


def test_scores_of_one_call_see_the_same_draws():
    drawn = bootstrap({"x": mean_of(np.arange(9.0)), "twice": mean_of(2 * np.arange(9.0))}, 9, resamples=20, seed=0)
    assert np.allclose(2 * drawn["x"], drawn["twice"])
