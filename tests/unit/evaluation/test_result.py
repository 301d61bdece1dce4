"""Scores, intervals and predictions of hand-made rows."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.scoring import BootstrapAggregator
from tests.unit.evaluation.tasks import judged, places, questions

from softprompt.errors import MissingDependencyError
from softprompt.evaluation import resampling
from softprompt.evaluation.result import Interval, draw_rows, measure
from softprompt.tasks.metrics import registry


def test_scores_of_hand_made_predictions():
    found = judged(["good", "Bad", "good bad", "sad"], ["good", "bad", "good", "bad"], ["accuracy", "macro_f1"])
    assert dict(found) == {
        "accuracy": 50.0,
        "macro_f1": pytest.approx(100 * (2 / 3 + 2 / 3) / 2),
        "illegal": 25.0,
        "empty": 0.0,
    }
    assert [row.label for row in found.predictions] == ["good", "bad", None, "sad"]
    assert [row.prediction for row in found.predictions] == ["good", "Bad", "good bad", "sad"]
    assert [row.input for row in found.predictions] == ["row 0", "row 1", "row 2", "row 3"]
    assert found.predictions[3].targets == ("bad",)
    assert found.predictions[3].source == "test:3"


def test_a_label_that_is_missing_is_illegal_too():
    found = judged(["good", "", " \n", "no label"], ["good"] * 4)
    assert (found["illegal"], found["empty"]) == (75.0, 50.0)


def test_free_text_has_no_labels_and_nothing_illegal():
    task = places(metrics=["bleu", "rougeL"])
    examples = list(task.examples("validation"))
    found = measure(task, "validation", examples, [row.targets[-1] for row in examples], by="generate")
    assert set(found) == {"bleu", "rougeL"}
    assert found["rougeL"] == pytest.approx(100)
    assert {row.label for row in found.predictions} == {None}


def test_an_evaluation_is_a_mapping():
    found = judged(["good"], ["good"])
    assert (list(found), len(found), found["accuracy"]) == (["accuracy", "illegal", "empty"], 3, 100.0)
    assert "accuracy" in found
    assert found.get("bleu") is None
    with pytest.raises(KeyError, match=r"Unknown metric of .* rows 'acuracy'\. Did you mean 'accuracy'"):
        found["acuracy"]


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    draw = random.Random(0)
    said = ["good" if draw.random() < 0.7 else "bad" for _ in range(400)]
    found = judged(said, ["good"] * 400)
    share = found["accuracy"]
    half = 1.96 * math.sqrt(share * (100 - share) / 400)
    assert found.intervals["accuracy"].low == pytest.approx(share - half, abs=0.6)
    assert found.intervals["accuracy"].high == pytest.approx(share + half, abs=0.6)


def test_intervals_cover_the_truth_about_as_often_as_they_promise():
    draw = random.Random(1)
    covered = 0
    for seed in range(30):
        said = ["good" if draw.random() < 0.6 else "bad" for _ in range(100)]
        low, high = judged(said, ["good"] * 100, seed=seed).intervals["accuracy"]
        covered += low <= 60 <= high
    assert 26 <= covered <= 30


def test_every_score_has_an_interval_around_it():
    said = ["good", "bad", "bad", "sad", " ", "good"] * 5
    true = ["good", "bad", "good", "sad", "bad", "sad"] * 5
    found = judged(said, true, ["accuracy", "macro_f1", "token_f1"])
    assert list(found.intervals) == ["accuracy", "macro_f1", "token_f1", "illegal", "empty"]
    for name, (low, high) in found.intervals.items():
        assert low < found[name] < high


def test_intervals_depend_on_the_seed_alone():
    said, true = ["good", "bad", "sad"] * 300, ["good", "bad", "bad"] * 300
    assert judged(said, true, seed=3).intervals == judged(said, true, seed=3).intervals
    assert judged(said, true, seed=3).intervals != judged(said, true, seed=4).intervals


def test_a_summary_is_plain():
    found = judged(["good", "bad"], ["good", "good"], seed=5, seconds=1.5)
    low, high = found.intervals["accuracy"]
    assert json.loads(json.dumps(found.summary())) == {
        "task": "rows",
        "split": "test",
        "by": "generate",
        "rows": 2,
        "metrics": {"accuracy": 50.0, "illegal": 0.0, "empty": 0.0},
        "missing": {},
        "intervals": {"accuracy": [low, high], "illegal": [0.0, 0.0], "empty": [0.0, 0.0]},
        "seed": 5,
        "seconds": 1.5,
    }
    assert Interval(low, high) == (0.0, 100.0)


def test_intervals_of_rouge_are_those_of_its_aggregator(monkeypatch):
    """rouge-score's BootstrapAggregator, given the same draws. Its middle is the median of the draws: near our mean."""
    words = ["a cheap pub near the river", "the river", "it serves food", "cheap food", "a place in the city", "pub"]
    task = places(metrics=["rouge1"])
    examples = list(task.examples("validation")) * 4
    found = measure(task, "validation", examples, words * 2, by="generate")

    def same_draws(unit, most, resamples, seed):
        np.random.seed(5)
        for _ in range(resamples):
            yield np.bincount(np.random.choice(np.arange(12), size=12), minlength=12)

    aggregator, scorer = BootstrapAggregator(), RougeScorer(["rouge1"], use_stemmer=True)
    for row in found.predictions:
        aggregator.add_scores(scorer.score_multi(list(row.targets), row.prediction))
    scores = found.resampled(["rouge1"])
    monkeypatch.setattr(resampling, "_draws", same_draws)
    drawn = resampling.bootstrap(scores, 12, resamples=1000, seed=0)["rouge1"]
    np.random.seed(5)
    expected = aggregator.aggregate()["rouge1"]
    low, middle, high = np.quantile(drawn, (0.025, 0.5, 0.975)) / 100
    assert (low, middle, high) == pytest.approx([getattr(expected, end).fmeasure for end in ("low", "mid", "high")])
    assert found["rouge1"] / 100 == pytest.approx(middle, abs=0.02)


def test_groups_come_along():
    task = questions()
    examples = list(task.examples("test"))
    said = ["True" if index % 3 else "False" for index in range(len(examples))]
    found = measure(task, "test", examples, said, by="rank")
    assert list(found) == ["f1a", "multirc_em", "accuracy"]
    assert [row.group for row in found.predictions[:4]] == ["0", "0", "0", "1"]
    assert (found.labels, found.answers.groups) == (("False", "True"), [row.group for row in found.predictions])
    low, high = found.intervals["multirc_em"]
    assert low < found["multirc_em"] < high


@pytest.mark.parametrize("rows", [1, 4, 30, 59])
def test_groups_are_drawn_whole(rows):
    task = questions()
    drawn = draw_rows(task, "test", rows, seed=2)
    assert len(drawn) == 3 * math.ceil(rows / 3)
    assert drawn == [row for row in task.examples("test") if row in drawn]
    assert len({task.group_of(row) for row in drawn}) == math.ceil(rows / 3)
    assert drawn == draw_rows(task, "test", rows, seed=2)
    assert len(draw_rows(task, "test", 60, seed=2)) == len(draw_rows(task, "test", None, seed=2)) == 60


def test_a_metric_that_cannot_be_computed_is_left_out_by_name(monkeypatch):
    def absent(predictions, references):
        raise MissingDependencyError("it needs a jar")

    monkeypatch.setitem(registry.METRICS._values, "absent", absent)
    found = judged(["good", "bad"], ["good", "good"], ["absent", "accuracy"])
    assert list(found) == ["accuracy", "illegal", "empty"]
    assert found.missing == {"absent": "it needs a jar"}
    assert found.metric_names == ("accuracy",)
    assert found.summary()["missing"] == {"absent": "it needs a jar"}
    assert list(found.intervals) == list(found)
    assert judged(["good"], ["good"], ["accuracy"]).missing == {}
