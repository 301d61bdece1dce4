"""Scores, intervals and predictions of hand-made rows."""

from __future__ import annotations

import json
import math
import random

import pytest
from tests.unit.evaluation.tasks import judged, places

from softprompt.evaluation.result import Interval, measure


def test_scores_of_hand_made_predictions():
    found = judged(["good", "Bad", "good bad", "sad"], ["good", "bad", "good", "bad"], ["accuracy", "macro_f1"])
    assert dict(found) == {
        "accuracy": 50.0,
        "macro_f1": pytest.approx(100 * (2 / 3 + 2 / 3) / 2),
        "illegal": 25.0,
    }
    assert [row.label for row in found.predictions] == ["good", "bad", None, "sad"]
    assert [row.prediction for row in found.predictions] == ["good", "Bad", "good bad", "sad"]
    assert [row.input for row in found.predictions] == ["row 0", "row 1", "row 2", "row 3"]
    assert found.predictions[3].targets == ("bad",)
    assert found.predictions[3].source == "test:3"


def test_free_text_has_no_labels_and_nothing_illegal():
    task = places(metrics=["bleu", "rougeL"])
    examples = list(task.examples("validation"))
    found = measure(task, "validation", examples, [row.targets[-1] for row in examples], by="generate")
    assert set(found) == {"bleu", "rougeL"}
    assert found["rougeL"] == pytest.approx(100)
    assert {row.label for row in found.predictions} == {None}


def test_an_evaluation_is_a_mapping():
    found = judged(["good"], ["good"])
    assert (list(found), len(found), found["accuracy"]) == (["accuracy", "illegal"], 2, 100.0)
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
    said = ["good", "bad", "bad", "sad", "no label", "good"] * 5
    true = ["good", "bad", "good", "sad", "bad", "sad"] * 5
    found = judged(said, true, ["accuracy", "macro_f1", "token_f1"])
    assert list(found.intervals) == ["accuracy", "macro_f1", "token_f1", "illegal"]
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
        "metrics": {"accuracy": 50.0, "illegal": 0.0},
        "intervals": {"accuracy": [low, high], "illegal": [0.0, 0.0]},
        "seed": 5,
        "seconds": 1.5,
    }
    assert Interval(low, high) == (0.0, 100.0)
