"""Metrics that need more than texts: labels, groups, or something that may be absent."""

from __future__ import annotations

import pytest

from softprompt.errors import ConfigError, DataError, MissingDependencyError
from softprompt.tasks import (
    Answers,
    Scorer,
    Task,
    TextFormat,
    compute_available,
    compute_metrics,
    get_scorer,
    register_metric,
)
from softprompt.tasks.metrics import registry
from softprompt.tasks.rows import Row

LABELS = {"0": "False", "1": "True"}
QUESTIONS = [("q1", "1"), ("q2", "0"), ("q1", "0"), ("q3", "1"), ("q2", "1"), ("q3", "0")]
ROWS = [{"question": name, "text": f"{name} {n}", "label": label} for n, (name, label) in enumerate(QUESTIONS)]


@pytest.fixture(autouse=True)
def metrics(monkeypatch):
    """The registry, put back as it was after the test."""
    monkeypatch.setattr(registry.METRICS, "_values", dict(registry.METRICS._values))


def questions(rows=ROWS, label_words=LABELS, **settings) -> Task:
    form = TextFormat(input="{text}", target="{label}", label_words=label_words)
    named = {"name": "questions", "metrics": ["multirc"], "group": "question", **settings}
    splits = {split: [Row(f"{split}:{n}", row) for n, row in enumerate(rows)] for split in ("train", "validation")}
    return Task.from_splits(splits, form, **named)


def absent(predictions, references):
    raise MissingDependencyError("it needs a jar: pip install jar")


def test_a_task_gives_metrics_what_they_need():
    task = questions()
    examples = task.examples("validation")
    answers = task.answers(examples, ["True"] * 6)
    assert answers.labels == ("False", "True")
    assert answers.groups == ["q1", "q2", "q1", "q3", "q2", "q3"]
    assert answers.references[1] == ("False",)
    assert [task.group_of(example) for example in examples[:2]] == ["q1", "q2"]
    assert task.with_format(input="so {text}").group == "question"


def test_rows_without_groups_have_none():
    task = questions(group=None, metrics=["accuracy"])
    assert task.group_of(task.examples("train")[0]) is None
    assert task.answers(task.examples("train"), ["True"] * 6).groups is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group": None}, r"'multirc' scores groups of rows, but nothing says .* the column that they have in common"),
        ({"label_words": {"0": "False", "1": "True", "2": "so"}, "metrics": ["binary_f1"]},
         r"'binary_f1' needs two labels, .* but got 3 \(False, True, so\); give two label words, or leave"),
        ({"label_words": None, "metrics": ["accuracy", "binary_f1"]}, r"got 0 \(free text\)"),
    ],
)  # fmt: skip
def test_a_metric_without_what_it_needs_is_refused_when_the_task_is_made(settings, message):
    with pytest.raises(ConfigError, match=message):
        questions(**settings)


@pytest.mark.parametrize("metric", ["multirc", "binary_f1"])
def test_and_when_it_is_computed(metric):
    with pytest.raises(ConfigError, match="needs two labels"):
        compute_metrics([metric], ["a"], [["a"]], groups=["x"])


def test_every_row_of_a_task_with_groups_has_one():
    with pytest.raises(DataError, match="train:6 has no column 'question', which says what it is scored with"):
        questions([*ROWS, {"text": "alone", "label": "1"}])


def test_there_is_a_group_for_each_row():
    with pytest.raises(DataError, match="1 groups came for 2 predictions; name one for each row"):
        compute_metrics(["accuracy"], ["a", "b"], [["a"], ["b"]], groups=["x"])


@pytest.mark.parametrize("metric", ["binary_f1", "multirc"])
def test_a_row_has_one_class(metric):
    with pytest.raises(DataError, match=f"Row 0 has 2 references, but {metric} needs its one class; use accuracy"):
        compute_metrics([metric], ["a"], [["a", "b"]], labels=("a", "b"), groups=["x"])


def test_groups_are_trained_and_validated_on_whole():
    """If the answers to a question came apart, its exact match would be that of some of them."""
    drawn = questions().validated_on_train(1, seed=1)
    held = {drawn.group_of(row) for row in drawn.examples("validation")}
    assert len(held) == 1
    assert len(drawn.examples("validation")) == 2
    assert held.isdisjoint(drawn.group_of(row) for row in drawn.examples("train"))
    assert len(questions().with_train_rows(2, seed=0).examples("train")) == 4
    with pytest.raises(ConfigError, match="validation_rows=3: questions has 3 distinct groups to train on"):
        questions().validated_on_train(3)


def test_rows_that_are_repeated_are_other_groups():
    answers = Answers(predictions=["a", "b", "c"], references=[["a"], ["b"], ["c"]], groups=["x", "y", "x"])
    twice = answers.repeated([2, 0, 2])
    assert list(twice.predictions) == ["a", "a", "c", "c"]
    assert twice.groups == ["0 x", "1 x", "0 x", "1 x"]
    assert answers.repeated([1, 1, 1]).groups == ["0 x", "0 y", "0 x"]
    assert answers.row(1) == Answers(predictions=["b"], references=[["b"]], groups=["y"])


def test_what_a_plain_function_is_taken_for():
    register_metric("absent", absent)
    scorer = get_scorer("absent")
    assert (scorer.scores, scorer.binary, scorer.grouped, scorer.less_is_better) == (("absent",), False, False, False)
    assert get_scorer("ter").less_is_better
    assert questions().watched == "f1a"
    assert questions(metrics=["accuracy", "multirc"]).watched == "accuracy"


def test_a_metric_of_groups_of_ones_own():
    def largest(answers: Answers) -> dict[str, float]:
        return {"largest": float(max(map(list(answers.groups).count, answers.groups)))}

    register_metric("largest", Scorer(function=largest, scores=("largest",), grouped=True))
    assert compute_metrics(["largest"], ["a"] * 3, [["a"]] * 3, groups=["x", "y", "x"]) == {"largest": 2}


def test_what_cannot_be_computed_is_named_and_the_rest_is_computed():
    register_metric("absent", absent)
    answers = Answers(predictions=["a"], references=[["a"]])
    scores, missing = compute_available(["absent", "accuracy"], answers)
    assert scores == {"accuracy": 100}
    assert missing == {"absent": "it needs a jar: pip install jar"}
    with pytest.raises(MissingDependencyError, match="it needs a jar: pip install jar"):
        compute_metrics(["accuracy", "absent"], ["a"], [["a"]])
