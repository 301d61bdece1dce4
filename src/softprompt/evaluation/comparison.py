"""Is one better than the other? A paired test of two evaluations on the same rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Float

from softprompt.config import choose
from softprompt.errors import DataError
from softprompt.evaluation.resampling import Dear, Progress, bootstrap
from softprompt.evaluation.result import Evaluation, Interval
from softprompt.tasks.metrics.classes import label_hits

__all__ = ["Comparison", "compare"]

_DRAWS, _FEWER_DRAWS = 10_000, 1_000


@final
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The difference of two evaluations in one metric.

    Attributes:
        metric: The metric.
        first: The first evaluation's score, in percent.
        second: The second's.
        difference: First minus second, in points.
        interval: 95 % interval of the difference; None if the metric cannot be computed for each draw of the rows (see
            `Evaluation.intervals`).
        p: How likely a difference as large would be, in either direction, if there were none; None without a test.
        test: Where `p` is from; None where there is no interval, and so no test.
        draws: How many draws of the rows were made.
        rows: How many rows both have.
    """

    metric: str
    first: float
    second: float
    difference: float
    interval: Interval | None
    p: float | None
    test: Literal["McNemar", "paired bootstrap"] | None
    draws: int
    rows: int


def compare(
    first: Evaluation,
    second: Evaluation,
    metric: str | None = None,
    *,
    resamples: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two evaluations on the same rows.

    Rows, or the groups that they are scored in, are drawn with replacement, the same for both. Accuracy of rows that
    have no groups has McNemar's exact test; otherwise the differences of the draws, moved to mean zero, stand for a
    world without difference.

    Args:
        first: An evaluation.
        second: Another, of the same rows in the same order.
        metric: Which metric; None takes the first that the first evaluation has.
        resamples: How many draws; None makes 10,000, or 1,000 where each takes many milliseconds, as of NIST, CIDEr,
            and metrics that are computed anew for each.
        seed: Of the draws.
        progress: Told how many draws are made, and of how many.

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
    differences = _differences(first, second, name, resamples, seed, progress)
    drawn = len(differences) > 0 and not np.isnan(differences).any()
    exact = drawn and name == "accuracy" and first.answers.groups is None
    p = None
    if drawn:
        p = _mcnemar(first, second) if exact else _by_bootstrap(differences, first[name] - second[name])
    return Comparison(
        metric=name,
        first=first[name],
        second=second[name],
        difference=first[name] - second[name],
        interval=Interval(*np.quantile(differences, (0.025, 0.975)).tolist()) if drawn else None,
        p=p,
        test="McNemar" if exact else "paired bootstrap" if drawn else None,
        draws=len(differences),
        rows=rows,
    )


def _differences(
    first: Evaluation,
    second: Evaluation,
    name: str,
    resamples: int | None,
    seed: int,
    progress: Progress | None,
) -> Float[np.ndarray, " draws"]:
    """First minus second in each draw of the rows; none where the metric cannot be computed for each draw."""
    both = [found[name] for found in (first.resampled([name]), second.resampled([name])) if name in found]
    if len(both) < 2:
        return np.empty(0)
    ours, theirs = both
    few = any(isinstance(score, Dear) for score in both)
    return bootstrap(
        {"difference": lambda counts: ours(counts) - theirs(counts)},
        len(first.predictions),
        groups=first.answers.groups,
        resamples=resamples or (_FEWER_DRAWS if few else _DRAWS),
        seed=seed,
        progress=progress,
    )["difference"]


def _by_bootstrap(differences: Float[np.ndarray, " draws"], seen: float) -> float:
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
