"""Metrics of classification: a prediction is one of the labels, or wrong."""

from __future__ import annotations

from collections.abc import Sequence

from softprompt.errors import DataError
from softprompt.tasks.metrics.labels import normalise_label

__all__ = ["accuracy", "macro_f1"]


def accuracy(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Share of rows, in percent, whose prediction is one of the references, but for case and spacing."""
    hits = [
        normalise_label(prediction) in map(normalise_label, row)
        for prediction, row in zip(predictions, references, strict=True)
    ]
    return {"accuracy": 100 * sum(hits) / len(hits)}


def macro_f1(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Mean over the references' classes of each class's F1, in percent.

    A prediction that is no class of the references is wrong for its row and is no class of its own, so illegal
    outputs do not change the number of classes.

    Raises:
        DataError: If a row has several references: it has one class.
    """
    from sklearn.metrics import f1_score

    for index, row in enumerate(references):
        if len(row) != 1:
            raise DataError(f"Row {index} has {len(row)} references, but macro_f1 needs its one class; use accuracy.")
    said = [normalise_label(prediction) for prediction in predictions]
    true = [normalise_label(row[0]) for row in references]
    score = f1_score(true, said, labels=sorted(set(true)), average="macro", zero_division=0.0)
    return {"macro_f1": 100 * float(score)}
