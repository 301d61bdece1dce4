"""The bootstrap: fast paths equal the metric computed anew."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.unit.evaluation.tasks import judged

from softprompt.evaluation import compare, comparison, resampling, result
from softprompt.evaluation.resampling import Dear, bootstrap, mean_of, resampled_metric
from softprompt.tasks import Answers, Scorer, get_scorer, metric_names
from softprompt.tasks.metrics import meteor, registry

SAID = [
    "the film was good .", "a city pub", "Good", "", "the river", "it serves cheap food near the river", "bad",
    "bad good",
]  # fmt: skip
TRUE = [
    ("the film was very good .", "a good film ."), ("a cheap city pub", "a pub"), ("good",), ("fish",), ("river",),
    ("it serves food near the river",), ("good",), ("bad",),
]  # fmt: skip
DRAW = np.random.default_rng(0)


YES_NO = Answers(
    predictions=["yes", "no", "yes", "perhaps", "yes", "no", "yes", "no"],
    references=[["yes"], ["no"], ["no"], ["yes"], ["yes"], ["no"], ["yes"], ["yes"]],
    labels=("no", "yes"),
    groups=["b", "a", "b", "c", "a", "a", "d", "c"],
)


TAGGED = Answers(
    predictions=["B-PER I-PER O", "O", "B-LOC", "O O", "I-LOC B-LOC O B-PER"],
    references=[["B-PER I-PER O"], ["B-LOC"], ["B-LOC"], ["O O"], ["B-LOC I-LOC O B-PER"]],
)


@pytest.fixture(autouse=True)
def alignments(monkeypatch):
    """Some counts for each row in the place of METEOR's program."""
    rows = np.random.default_rng(1).integers(3, 9, (50, 23)).astype(float)
    monkeypatch.setattr(meteor, "_known", {})
    monkeypatch.setattr(meteor, "_aligned", lambda asked: [tuple(row) for row in rows[: len(asked)]])


@pytest.fixture
def few(monkeypatch):
    """Fewer draws than else, which take their time."""
    monkeypatch.setattr(comparison, "_DRAWS", 400)
    monkeypatch.setattr(comparison, "_FEWER_DRAWS", 300)
    monkeypatch.setattr(result, "_DRAWS", 100)


def rows_for(name: str) -> Answers:
    if name in ("binary_f1", "multirc"):
        return YES_NO
    if name in ("entity_f1", "tag_accuracy"):
        return TAGGED
    if name != "macro_f1":
        return Answers(predictions=SAID, references=TRUE)
    # few rows: in some draws a class is missing, and does not count
    said, true = ["good", "bad", "no label", "sad", "good"], [("good",), ("bad",), ("bad",), ("good",), ("sad",)]
    return Answers(predictions=said, references=true)


def drawn_from(answers: Answers) -> np.ndarray:
    """How often each row comes in a draw of rows, or of their groups."""
    units = list(dict.fromkeys(answers.groups or map(str, range(len(answers.predictions)))))
    drawn = [units[place] for place in DRAW.integers(0, len(units), len(units))]
    return np.array([drawn.count(unit) for unit in answers.groups or units])


@pytest.mark.parametrize("name", metric_names())
def test_a_draw_scores_as_the_metric_scores_the_drawn_rows(name):
    answers = rows_for(name)
    scores = resampled_metric(name, answers)
    for _ in range(12):
        counts = drawn_from(answers)
        expected = get_scorer(name).function(answers.repeated(counts.tolist()))
        assert {key: score(counts) for key, score in scores.items()} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", metric_names())
def test_no_metric_of_ours_is_computed_anew_for_each_draw(name, monkeypatch):
    answers = rows_for(name)
    scores = resampled_metric(name, answers)
    monkeypatch.setattr(Answers, "repeated", None)
    drawn = bootstrap(scores, len(answers.predictions), groups=answers.groups, resamples=3, seed=0)
    assert not np.isnan(drawn[next(iter(scores))]).any()


def scorer_of(function):
    return lambda name: Scorer(function=function, scores=(name,))


def test_a_metric_that_is_no_mean_over_rows_is_computed_anew(monkeypatch):
    def different(answers):
        return {"different": 100 * len(set(answers.predictions)) / len(answers.predictions)}

    monkeypatch.setattr(resampling, "get_scorer", scorer_of(different))
    answers = Answers(predictions=["a", "a", "b", "c"], references=[("x",)] * 4)
    (score,) = resampled_metric("different", answers).values()
    assert score(np.array([2, 2, 0, 0])) == 25
    assert score(np.array([1, 1, 1, 1])) == 75


def test_a_metric_of_groups_is_computed_anew_from_whole_groups(monkeypatch):
    """A group that is drawn twice is two groups, not one of twice the size."""

    def largest(answers):
        return {"largest": float(max(map(answers.groups.count, answers.groups)))}

    monkeypatch.setattr(resampling, "get_scorer", scorer_of(largest))
    (score,) = resampled_metric("largest", YES_NO).values()
    assert score(np.array([2, 1, 2, 0, 1, 1, 0, 0])) == 3
    assert score(np.array([4, 0, 4, 0, 0, 0, 0, 0])) == 2


@pytest.mark.usefixtures("few")
def test_a_slow_metric_of_another_package_is_not_computed_for_draws(monkeypatch):
    """Each row and each draw had started its program: 2,846 times for 921 rows."""
    calls = []

    def program(answers):
        calls.append(len(answers.predictions))
        return {"program": 100 * len(set(answers.predictions)) / len(answers.predictions)}

    slow = Scorer(function=program, scores=("program",), slow=True)
    monkeypatch.setitem(registry.METRICS._values, "program", slow)
    found = judged(["good", "bad", "good"], ["good", "good", "bad"], ["program", "token_f1"])
    assert list(found.intervals) == ["token_f1", "illegal", "empty"]
    assert calls == [3]
    compared = compare(found, found, "program")
    assert (compared.difference, compared.interval, compared.p, compared.test) == (0, None, None, None)
    assert compare(found, found, "token_f1").p == 1
    assert calls == [3]
    mean = judged(["good"] * 3, ["good"] * 3, ["program+token_f1"])
    assert "program+token_f1" not in mean.intervals


@pytest.mark.usefixtures("few")
def test_a_metric_that_refuses_single_rows_is_computed_on_draws(monkeypatch):
    """It ended the evaluation, whose predictions were all made."""

    def spread(answers):
        if len(answers.predictions) == 1:
            raise ZeroDivisionError
        return {"spread": 100 * len(set(answers.predictions)) / len(answers.predictions)}

    monkeypatch.setitem(registry.METRICS._values, "spread", Scorer(function=spread, scores=("spread",)))
    found = judged(["good", "bad", "sad"], ["good", "good", "bad"], ["spread"])
    assert found.intervals["spread"].low < found.intervals["spread"].high
    assert compare(found, found).draws == 300


@pytest.mark.usefixtures("few")
def test_a_metric_that_refuses_some_draws_has_no_interval(monkeypatch):
    def distinct(answers):
        if len(set(answers.predictions)) == 1:
            raise ZeroDivisionError
        return {"distinct": float(len(set(answers.predictions)))}

    monkeypatch.setitem(registry.METRICS._values, "distinct", Scorer(function=distinct, scores=("distinct",)))
    found = judged(["good", "bad"], ["good", "good"], ["distinct"])
    assert list(found) == ["distinct", "illegal", "empty"]
    assert list(found.intervals) == ["illegal", "empty"]
    assert compare(found, found, "distinct").p is None


@pytest.mark.usefixtures("few")
def test_of_dear_scores_fewer_draws_are_made():
    answers = Answers(predictions=SAID, references=TRUE)
    assert all(isinstance(resampled_metric(name, answers)[name], Dear) for name in ("nist", "cider", "nist+bleu"))
    found = judged(["good", "bad"], ["good", "good"], ["nist", "bleu"])
    told = []
    assert compare(found, found, progress=lambda *draws: told.append(draws)).draws == 300
    assert told == [(100, 300), (200, 300), (300, 300)]
    assert compare(found, found, "bleu").draws == 400
    assert compare(found, found, resamples=150, progress=lambda *draws: told.append(draws)).draws == 150
    assert told[-2:] == [(100, 150), (150, 150)]


def test_a_shortcut_that_is_wrong_is_not_taken(monkeypatch):
    wrong = {"accuracy": lambda answers: {"accuracy": lambda counts: 50.0}}
    monkeypatch.setattr(resampling, "_SHORTCUTS", wrong)
    answers = Answers(predictions=["a", "b"], references=[("a",), ("b",)])
    assert resampled_metric("accuracy", answers)["accuracy"](np.array([1, 1])) == 100


def test_groups_are_drawn_whole():
    groups = ["b", "a", "b", "c", "a", "a"]
    seen = []
    bootstrap({"x": lambda counts: seen.append(counts.tolist()) or 0.0}, 6, groups=groups, resamples=50, seed=0)
    for counts in seen:
        of_group = {group: {counts[row] for row in range(6) if groups[row] == group} for group in groups}
        assert all(len(several) == 1 for several in of_group.values())
        assert sum(count for several in of_group.values() for count in several) == 3
    assert len(set(map(tuple, seen))) > 5


def test_rows_that_agree_within_groups_tell_less_than_as_many_that_do_not():
    """Answers of 20 questions with 10 rows each, all right or all wrong: as if there were 20 rows."""
    values = mean_of(np.repeat([100.0, 0.0], 100))
    groups = [str(row // 10) for row in range(200)]
    alone = bootstrap({"x": values}, 200, resamples=2000, seed=0)["x"].std()
    together = bootstrap({"x": values}, 200, groups=groups, resamples=2000, seed=0)["x"].std()
    assert together / alone == pytest.approx(math.sqrt(10), rel=0.1)


def test_draws_depend_on_the_seed_alone():
    values = mean_of(np.arange(20.0))
    first, again, other = (bootstrap({"x": values}, 20, resamples=50, seed=seed)["x"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert abs(first.mean() - 9.5) < 1


def test_scores_of_one_call_see_the_same_draws():
    drawn = bootstrap({"x": mean_of(np.arange(9.0)), "twice": mean_of(2 * np.arange(9.0))}, 9, resamples=20, seed=0)
    assert np.allclose(2 * drawn["x"], drawn["twice"])
