"""What came out for each test row, which a row of results keeps, and how sure differences of scores are by it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from softprompt.evaluation import Evaluation, Prediction
from softprompt.studies.cells import digest

__all__ = ["OUTCOMES", "RowErrors", "keep_outcomes", "kept_errors"]

OUTCOMES = "outcomes"
"""The column of a row of results: by what was reported on, what `keep_outcomes` gave."""


@final
@dataclass(frozen=True)
class RowErrors:
    """How an estimate errs as test rows are drawn, row by row, so that those of two estimates can be subtracted.

    They are added, subtracted and weighted as the estimates are: what two of them have in common on the same rows
    cancels out, and different rows err independently.

    Attributes:
        by_rows: By the digest of a set of rows, an error for each row, or group of rows.

    References:
        Efron and Tibshirani 1993, chapter 11 (the jackknife).
    """

    by_rows: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: str, outcomes: Sequence[float]) -> RowErrors:
        """Those of a score.

        Args:
            rows: Digest of its rows.
            outcomes: Two or more.
        """
        values = np.array(outcomes, dtype=float)
        errors = (values - values.mean()) / math.sqrt(len(values) * (len(values) - 1))
        return cls({rows: tuple(errors.tolist())})

    def __add__(self, other: RowErrors) -> RowErrors:
        shared = self.by_rows.keys() & other.by_rows.keys()
        sums = {
            rows: tuple(one + two for one, two in zip(self.by_rows[rows], other.by_rows[rows], strict=True))
            for rows in shared
        }
        return RowErrors({**self.by_rows, **other.by_rows, **sums})

    def __sub__(self, other: RowErrors) -> RowErrors:
        return self + other * -1.0

    def __mul__(self, weight: float) -> RowErrors:
        return RowErrors({rows: tuple(weight * error for error in errors) for rows, errors in self.by_rows.items()})

    @property
    def standard_error(self) -> float:
        """Of the estimate, in its unit."""
        return math.hypot(*itertools.chain(*self.by_rows.values()))


def keep_outcomes(watched: str, *scores: Evaluation) -> dict[str, Any] | None:
    """What a row of results keeps, as plain values: a digest of the test rows, and by row what came out.

    Args:
        watched: The score that counts.
        scores: On the same test rows; of several, what came out is the mean.

    Returns:
        None if what came out cannot be told row by row.
    """
    found = [outcomes for one in scores if (outcomes := one.outcomes(watched)) is not None]
    if len(found) < len(scores):
        return None
    rows = digest([_said_of(row) for row in scores[0].predictions])
    return {"rows": rows, "values": [_short(value) for value in np.mean(found, axis=0).tolist()]}


def kept_errors(kept: Mapping[str, Any] | None) -> RowErrors | None:
    """Errors of the score that outcomes were kept of; None if there are none."""
    return None if kept is None else RowErrors.of(kept["rows"], kept["values"])


def _said_of(row: Prediction) -> list[Any]:
    """What tells a row from others, whatever was predicted."""
    return [row.input, *row.targets, *([] if row.group is None else [{"group": row.group}])]


def _short(value: float) -> float:
    """With two digits behind the point, and none where there are none."""
    short = round(value, 2)
    return int(short) if short == int(short) else short
