"""Paired tests: a clear difference is seen, an absent one is not."""

from __future__ import annotations

import dataclasses
import random

import pytest
from tests.unit.evaluation.tasks import judged, questions

from softprompt.errors import ConfigError, DataError
from softprompt.evaluation import compare
from softprompt.evaluation.result import measure

TRUE = ["good", "bad"] * 60


def flipped(share: float, seed: int) -> list[str]:
    """The truth with a share of its rows wrong."""
    draw = random.Random(seed)
    return ["sad" if draw.random() < share else label for label in TRUE]


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "token_f1"])
def test_a_clear_difference_is_seen(metric):
    first, second = (judged(flipped(share, seed=1), TRUE, [metric]) for share in (0.1, 0.4))
    found = compare(first, second, resamples=2000)
    assert found.difference == pytest.approx(first[metric] - second[metric])
    assert found.p < 0.01
    assert 0 < found.interval.low < found.difference < found.interval.high
    assert compare(second, first, resamples=2000).interval.high < 0


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "token_f1"])
def test_an_absent_difference_is_not(metric):
    first, second = (judged(flipped(0.3, seed), TRUE, [metric]) for seed in (1, 2))
    found = compare(first, second, resamples=2000)
    assert found.p > 0.1
    assert found.interval.low < 0 < found.interval.high


def test_equal_evaluations_do_not_differ():
    found = compare(judged(TRUE, TRUE), judged(TRUE, TRUE), resamples=100)
    assert (found.difference, found.interval, found.p) == (0, (0, 0), 1)


def test_false_alarms_are_as_rare_as_promised():
    alarms = 0
    for seed in range(20):
        first, second = (judged(flipped(0.3, 100 * seed + k), TRUE, ["token_f1"]) for k in (1, 2))
        alarms += compare(first, second, resamples=300, seed=seed).p < 0.05
    assert alarms <= 4


def test_accuracy_has_mcnemars_exact_test():
    """8 rows that only the first has right, 1 that only the second has: 2 * (1 + 9) / 2**9."""
    true = ["good"] * 20
    first = judged(["good"] * 19 + ["bad"], true)
    second = judged(["bad"] * 8 + ["good"] * 12, true)
    found = compare(first, second, resamples=100)
    assert found.test == "McNemar"
    assert found.p == pytest.approx(20 / 512)
    assert (found.first, found.second, found.rows) == (95.0, 60.0, 20)


def test_rows_of_one_group_are_no_independent_witnesses():
    """All answers to 4 of 20 questions are better: McNemar would count 12 rows, and see a clear difference."""
    task = questions()
    rows = list(task.examples("test"))
    right = [row.targets[0] for row in rows]
    worse = ["neither" if index < 12 else label for index, label in enumerate(right)]
    first, second = (measure(task, "test", rows, said, by="rank") for said in (right, worse))
    found = compare(first, second, "accuracy", resamples=2000)
    assert found.test == "paired bootstrap"
    assert (found.first, found.difference, found.rows) == (100, 20, 60)
    assert 0.01 < found.p < 0.2
    exact = compare(first, second, "multirc_em", resamples=2000)
    assert (exact.difference, exact.interval) == (20, found.interval)
    alone = dataclasses.replace(task, group=None, metrics=("accuracy",))
    first, second = (measure(alone, "test", rows, said, by="rank") for said in (right, worse))
    assert compare(first, second, "accuracy", resamples=10).p < 0.001
    with pytest.raises(DataError, match="not of the same rows"):
        compare(first, measure(task, "test", rows, right, by="rank"), "accuracy")


def test_pairing_counts():
    """Two systems that fail on the same hard rows differ clearly by a few rows, although both vary much."""
    first = judged(flipped(0.4, seed=1), TRUE, ["token_f1"])
    worse = flipped(0.4, seed=1)
    for index in [i for i, (a, b) in enumerate(zip(worse, TRUE, strict=True)) if a == b][:8]:
        worse[index] = "sad"
    second = judged(worse, TRUE, ["token_f1"])
    assert first.intervals["token_f1"].low < second["token_f1"]
    assert compare(first, second, resamples=2000).p < 0.05


def test_a_comparison_depends_on_the_seed_alone():
    first, second = (judged(flipped(0.3, seed), TRUE) for seed in (1, 2))
    assert compare(first, second, resamples=200, seed=1) == compare(first, second, resamples=200, seed=1)
    assert compare(first, second, resamples=200, seed=1) != compare(first, second, resamples=200, seed=2)


def test_only_the_same_rows_are_compared():
    with pytest.raises(DataError, match=r"not of the same rows \(rows test, 120 rows; rows test, 119 rows\)"):
        compare(judged(TRUE, TRUE), judged(TRUE[1:], TRUE[1:]))


def test_both_have_the_metric():
    first, second = judged(TRUE, TRUE, ["accuracy", "macro_f1"]), judged(TRUE, TRUE, ["accuracy"])
    with pytest.raises(
        ConfigError, match=r"Unknown metric of both evaluations 'macro_f1'.* Known: accuracy, empty, illegal"
    ):
        compare(first, second, "macro_f1")
