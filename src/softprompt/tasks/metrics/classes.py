"""Metrics of classification: a prediction is one of the labels, or wrong."""

from __future__ import annotations

from collections.abc import Sequence

from softprompt.errors import DataError
from softprompt.tasks.metrics.labels import normalise_label
from softprompt.tasks.metrics.signature import Answers

__all__ = ["accuracy", "binary_f1", "label_hits", "macro_f1", "multirc", "only_classes", "positives"]


def accuracy(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Share of rows, in percent, whose prediction is one of the references, but for case and spacing.

    T5's accuracy counts case and spacing: of generated labels it may be lower. Ranked labels are spelled as they are.
    """
    hits = label_hits(predictions, references)
    return {"accuracy": 100 * sum(hits) / len(hits)}


def macro_f1(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Mean over the references' classes of each class's F1, in percent.

    A prediction that is no class of the references is wrong for its row and is no class of its own, so illegal
    outputs do not change the number of classes. Case and spacing do not count, as they do for T5.

    Raises:
        DataError: If a row has several references: it has one class.
    """
    from sklearn.metrics import f1_score

    said = [normalise_label(prediction) for prediction in predictions]
    true = only_classes("macro_f1", references)
    score = f1_score(true, said, labels=sorted(set(true)), average="macro", zero_division=0.0)
    return {"macro_f1": 100 * float(score)}


def binary_f1(answers: Answers) -> dict[str, float]:
    """F1 of the positive class in percent, as GLUE scores MRPC and QQP.

    The positive class is the second of the two labels, as in `label_words={"0": "different", "1": "equivalent"}`. A
    prediction that is neither is wrong, as T5 counts it: a miss of a positive row, a false alarm on a negative one.
    Case and spacing do not count, as they do for T5.

    Raises:
        DataError: If a row has several references: it has one class.

    References:
        Wang et al. 2018 (GLUE); T5's `f1_score_with_invalid` (t5/evaluation/metrics.py).
    """
    return {"binary_f1": positive_f1("binary_f1", answers)}


def multirc(answers: Answers) -> dict[str, float]:
    """MultiRC in percent: F1 of the answers that are right, and the share of questions without any mistake.

    A row is one answer to a question, its group is the question, and the second label says that the answer is right.
    A prediction that is no label is wrong, and case and spacing do not count, as for `binary_f1`.

    Raises:
        DataError: If a row has several references: it has one class.

    References:
        Khashabi et al. 2018 (F1a and EM0); Wang et al. 2019 (SuperGLUE); T5's `multirc_f1_over_all_answers`.
    """
    flawless: dict[str, bool] = dict.fromkeys(answers.groups or (), True)
    for question, hit in zip(answers.groups or (), label_hits(answers.predictions, answers.references), strict=True):
        flawless[question] &= hit
    return {"f1a": positive_f1("multirc", answers), "multirc_em": 100 * sum(flawless.values()) / len(flawless)}


def label_hits(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[bool]:
    """By row, whether the prediction is one of the references."""
    rows = zip(predictions, references, strict=True)
    return [normalise_label(said) in map(normalise_label, true) for said, true in rows]


def positives(metric: str, answers: Answers) -> tuple[list[bool], list[bool]]:
    """By row, whether the second label is said, and whether it is true; what is no label says the wrong one.

    Raises:
        DataError: If a row has several references.
    """
    negative, positive = map(normalise_label, answers.labels)
    true = [label == positive for label in only_classes(metric, answers.references)]
    meant = {negative: False, positive: True}
    texts = zip(answers.predictions, true, strict=True)
    return [meant.get(normalise_label(text), not is_true) for text, is_true in texts], true


def positive_f1(metric: str, answers: Answers) -> float:
    """F1 of the second label in percent; 0 where it is neither said nor true."""
    said, true = positives(metric, answers)
    both = sum(one and other for one, other in zip(said, true, strict=True))
    return 200 * both / max(1, sum(said) + sum(true))


def only_classes(metric: str, references: Sequence[Sequence[str]]) -> list[str]:
    """The class of each row, normalised.

    Raises:
        DataError: If a row has several.
    """
    for index, row in enumerate(references):
        if len(row) != 1:
            raise DataError(f"Row {index} has {len(row)} references, but {metric} needs its one class; use accuracy.")
    return [normalise_label(row[0]) for row in references]
