"""How large a difference over several cells is, and how sure: contrasts of cell means, their intervals and tests.

A cell holds the paired differences of two lines of one task, one for each seed. Cells are fixed: they are the backbones
and settings that were asked about, and nothing is said of others. Drawn are seeds, and the rows that all lines of a
task were scored on: an interval is of both.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float
from scipy import optimize, stats

from softprompt.evaluation import Interval

__all__ = [
    "LEVEL",
    "Cells",
    "Effect",
    "contrast",
    "distance_p",
    "mean_weights",
    "slope_weights",
    "unpaired_error",
    "within_correlation",
]

Cells = Sequence[Float[np.ndarray, " _seeds"]]
"""By cell, a difference for each seed, in points; cells may have different numbers of seeds."""

LEVEL = 0.95
"""How often the intervals of one claim are to hold what is true, all of them together."""
_RESAMPLES = 10_000
_TOLERANCE = 1e-9
_LEAST_P = 1e-15


@final
@dataclass(frozen=True, kw_only=True)
class Effect:
    """A contrast of cell means.

    Attributes:
        value: Its estimate.
        interval: Of seeds and rows.
        bootstrap: 95 % interval of draws with replacement of each cell's seeds; too narrow with few seeds.
        error: Standard error as seeds were drawn.
        rows_error: Standard error as rows were drawn.
        freedom: Degrees of freedom of `error`.
    """

    value: float
    interval: Interval
    bootstrap: Interval
    error: float
    rows_error: float
    freedom: int


def mean_weights(cells: int) -> Float[np.ndarray, " cells"]:
    """Weights of the mean over so many cells, whatever their seeds."""
    return np.full(cells, 1 / cells)


def slope_weights(
    places: Float[np.ndarray, " cells"], groups: Sequence[Hashable]
) -> Float[np.ndarray, " cells"] | None:
    """Weights of the least-squares slope over where cells stand, with an intercept for each group.

    Args:
        places: Of each cell.
        groups: By cell, what it shares its intercept with.

    Returns:
        The weights, in 1 per unit of the places; None if no group has two places.
    """
    offsets = _within(places, groups)
    spread = float(offsets @ offsets)
    return offsets / spread if spread > _TOLERANCE else None


def within_correlation(
    places: Float[np.ndarray, " cells"], values: Float[np.ndarray, " cells"], groups: Sequence[Hashable]
) -> float | None:
    """Pearson's r of values with places, both less the mean of their group; None if either does not vary."""
    offsets, residues = _within(places, groups), _within(values, groups)
    spread = float(offsets @ offsets) * float(residues @ residues)
    return float(offsets @ residues) / spread**0.5 if spread > _TOLERANCE**2 else None


def _within(values: Float[np.ndarray, " cells"], groups: Sequence[Hashable]) -> Float[np.ndarray, " cells"]:
    """Values less the mean of their group."""
    offsets = np.zeros(len(values))  # [cells]
    for group in dict.fromkeys(groups):
        own = np.array([one == group for one in groups])
        offsets[own] = values[own] - values[own].mean()
    return offsets


def contrast(
    cells: Cells,
    weights: Float[np.ndarray, " cells"],
    *,
    rows_error: float = 0.0,
    level: float = LEVEL,
    seed: int = 0,
) -> Effect:
    """A weighted sum of cell means, `sum(w_c mean_c)`, with an interval.

    The variance within cells is taken to be one, and pooled: `s^2 = sum (d_cs - mean_c)^2 / sum (n_c - 1)`; seeds make
    the contrast's `s^2 sum w_c^2 / n_c`. The interval reaches `sqrt((t s.e.)^2 + (z e)^2)` to each side, with s.e. of
    seeds and e of rows: never less far than for seeds alone.

    Args:
        cells: At least one of them with two seeds.
        weights: Of each cell.
        rows_error: Standard error of the contrast as rows are drawn, which more seeds do not lessen.
        level: Of the interval.
        seed: Of the bootstrap.

    References:
        Montgomery 2017, §3.5 (contrasts of treatment means); Zou and Donner 2008 (limits of two sources recovered);
        Efron and Tibshirani 1993, §13.3.
    """
    counts = np.array([len(cell) for cell in cells])
    means = np.array([cell.mean() for cell in cells])
    freedom = int((counts - 1).sum())
    variance = sum(float(((cell - mean) ** 2).sum()) for cell, mean in zip(cells, means, strict=True)) / freedom
    value = float(weights @ means)
    error = float(np.sqrt(variance * (weights**2 / counts).sum()))
    reach = _reach(1 - level, error, rows_error, freedom)
    return Effect(
        value=value,
        interval=Interval(value - reach, value + reach),
        bootstrap=_bootstrap(cells, weights, seed),
        error=error,
        rows_error=rows_error,
        freedom=freedom,
    )


def unpaired_error(weights: Float[np.ndarray, " cells"], errors: Float[np.ndarray, " cells"]) -> float:
    """Standard error of a contrast as rows were drawn that all cells share, where nothing is known row by row.

    Cells whose weights have one sign are held to err alike, those of opposite signs apart, which is the most that
    errors without negative correlation come to.

    Args:
        weights: Of each cell.
        errors: Of each cell's mean.
    """
    weighted = weights * errors
    return float(np.hypot(weighted[weighted > 0].sum(), weighted[weighted < 0].sum()))


def distance_p(effect: Effect, distance: float) -> float:
    """How likely an effect so far from a margin would be, if it lay there: 1 less the level whose interval ends there.

    Args:
        effect: With an error above zero.
        distance: From the margin, in the effect's unit.
    """

    def beyond(log_p: float) -> float:
        return _reach(float(np.exp(log_p)), effect.error, effect.rows_error, effect.freedom) - abs(distance)

    if not distance:
        return 1.0
    least = float(np.log(_LEAST_P))
    return float(np.exp(optimize.brentq(beyond, least, 0.0))) if beyond(least) > 0 else 0.0


def _reach(share: float, error: float, rows_error: float, freedom: int) -> float:
    """How far an interval goes to each side that leaves such a share out."""
    return float(np.hypot(stats.t.isf(share / 2, freedom) * error, stats.norm.isf(share / 2) * rows_error))


def _bootstrap(cells: Cells, weights: Float[np.ndarray, " cells"], seed: int) -> Interval:
    draws = sum(weight * means for weight, means in zip(weights, _drawn_means(cells, seed), strict=True))
    return Interval(*np.quantile(draws, ((1 - LEVEL) / 2, (1 + LEVEL) / 2)).tolist())


def _drawn_means(cells: Cells, seed: int) -> Iterator[Float[np.ndarray, " draws"]]:
    generator = np.random.default_rng(seed)
    for cell in cells:
        yield cell[generator.integers(0, len(cell), (_RESAMPLES, len(cell)))].mean(1)
