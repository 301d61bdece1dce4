"""Is one better than the other? A paired test of two evaluations on the same rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from softprompt.config import choose
from softprompt.errors import DataError
from softprompt.evaluation.resampling import bootstrap
from softprompt.evaluation.result import Evaluation, Interval
from softprompt.tasks.metrics.classes import label_hits

__all__ = ["Comparison", "compare"]


@final
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The difference of two evaluations in one metric.

    Attributes:
        metric: The metric.
        first: The first evaluation's score, in percent.
        second: The second's.
        difference: First minus second, in points.
        interval: 95 % interval of the difference.
        p: How likely a difference as large would be, in either direction, if there were none.
        test: Where `p` is from.
        rows: How many rows both have.
    """

    metric: str
    first: float
    second: float
    difference: float
    interval: Interval
    p: float
    test: Literal["McNemar", "paired bootstrap"]
    rows: int


def compare(
    first: Evaluation, second: Evaluation, metric: str | None = None, *, resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """Compare two evaluations on the same rows.

    Rows, or the groups that they are scored in, are drawn with replacement, the same for both. Accuracy of rows that
    have no groups has McNemar's exact test; otherwise the differences of the draws, moved to mean zero, stand for a
    world without difference.

    Args:
        first: An evaluation.
        second: Another, of the same rows in the same order.
        metric: Which metric; None takes the first that the first evaluation has.
        resamples: How many draws.
        seed: Of the draws.

    Raises:
        DataError: If the rows differ.
        ConfigError: If one of the two does not have the metric.

    References:
        Efron and Tibshirani 1993, §16.4; McNemar 1947, in its exact form; Riezler and Maxwell 2005.
    """
    rows = len(first.predictions)
    if _rows_of(first) != _rows_of(second):
        raise DataError(
            f"The evaluations are not of the same rows ({first.task} {first.split}, {rows} rows; {second.task} "
            f"{second.split}, {len(second.predictions)} rows); compare two of one split, with the same rows."
        )
    name = metric or next(iter(first))
    for evaluation in (first, second):
        if name not in evaluation:
            raise choose("metric of both evaluations", name, first.keys() & second.keys())
    ours, theirs = (evaluation.resampled([name])[name] for evaluation in (first, second))
    groups = first.answers.groups
    drawn = bootstrap(
        {"difference": lambda counts: ours(counts) - theirs(counts)},
        rows,
        groups=groups,
        resamples=resamples,
        seed=seed,
    )
    differences = drawn["difference"]
    exact = name == "accuracy" and groups is None
    return Comparison(
        metric=name,
        first=first[name],
        second=second[name],
        difference=first[name] - second[name],
        interval=Interval(*np.quantile(differences, (0.025, 0.975)).tolist()),
        p=_mcnemar(first, second) if exact else _by_bootstrap(differences, first[name] - second[name]),
        test="McNemar" if exact else "paired bootstrap",
        rows=rows,
    )


def _by_bootstrap(differences: np.ndarray, seen: float) -> float:
    """The share of draws, moved to mean zero, that are as far from zero as what was seen."""
    tolerance = 1e-9  # a draw that is as far does count, also after rounding
    as_far = int((np.abs(differences - seen) >= abs(seen) - tolerance).sum())
    return (as_far + 1) / (len(differences) + 1)


def _mcnemar(first: Evaluation, second: Evaluation) -> float:
    """Exact two-sided binomial test of the rows that only one of the two has right."""
    pairs = list(zip(_right(first), _right(second), strict=True))
    only_first = sum(a and not b for a, b in pairs)
    only_second = sum(b and not a for a, b in pairs)
    discordant = only_first + only_second
    fewer = sum(math.comb(discordant, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * fewer / 2**discordant)


def _rows_of(evaluation: Evaluation) -> list[tuple[str, tuple[str, ...], str | None]]:
    return [(row.input, row.targets, row.group) for row in evaluation.predictions]


def _right(evaluation: Evaluation) -> list[bool]:
    return label_hits(evaluation.answers.predictions, evaluation.answers.references)
