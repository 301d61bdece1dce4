"""Small tasks in memory, in the words of the tiny backbones."""

from __future__ import annotations

from collections.abc import Sequence

from softprompt.evaluation import Evaluation
from softprompt.evaluation.result import measure
from softprompt.tasks import Row, Task, TextFormat

REVIEWS = [
    ("the film was very good", "1"),
    ("a boring book", "0"),
    ("terrible plot and a long film", "0"),
    ("great song", "1"),
    ("it is so sad", "0"),
    ("bad", "0"),
    ("a funny short film and a happy plot", "1"),
]


def sentiment(**settings) -> Task:
    """Films and books, good or bad; the same rows in every split."""
    rows = [{"text": text, "label": label} for text, label in REVIEWS]
    return Task.from_rows(
        {"train": rows, "validation": rows},
        input="review : {text}",
        target="{label}",
        label_words={"0": "bad", "1": "city centre"},
        name="sentiment",
        **settings,
    )


def places(**settings) -> Task:
    """Places and their descriptions: free text, several references."""
    rows = [
        {"table": "name : pub | river", "references": ["a pub near the river", "the river pub"]},
        {"table": "name : food", "references": ["it serves food"]},
        {"table": "place : city centre | cheap", "references": ["a cheap place in the city", "cheap", "a cheap place"]},
    ]
    return Task.from_rows(
        {"train": rows, "validation": rows}, input="{table}", target="{references}", name="places", **settings
    )


def questions(**settings) -> Task:
    """20 questions with three answers each, some of which are right."""
    rows = [
        Row(f"test:{row}", {"question": row // 3, "text": f"{row // 3} {row % 3}", "label": row * 7 % 5 % 2})
        for row in range(60)
    ]
    form = TextFormat(input="{text}", target="{label}", label_words={"0": "False", "1": "True"})
    given = {"name": "questions", "metrics": ["multirc", "accuracy"], "group": "question", **settings}
    return Task.from_splits({"train": rows, "test": rows}, form, **given)


def judged(said: Sequence[str], true: Sequence[str], metrics: Sequence[str] = ("accuracy",), **settings) -> Evaluation:
    """An evaluation of predictions that are given."""
    rows = [{"text": f"row {index}", "label": label} for index, label in enumerate(true)]
    labels = {label: label for label in ("good", "bad", "sad")}
    task = Task.from_rows({"test": rows}, input="{text}", target="{label}", label_words=labels, metrics=list(metrics))
    return measure(task, "test", list(task.examples("test")), list(said), by="generate", **settings)
