"""How large a difference over several cells is, and how sure: contrasts of cell means, their intervals and tests.

A cell holds the paired differences of two lines, one for each seed. Cells are fixed: they are the tasks, backbones and
settings that were asked about, and nothing is said of others. Seeds are drawn: they are all that the intervals are of.
That both lines were scored on a sample of rows is in none of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float
from scipy import stats

from softprompt.evaluation import Interval

__all__ = ["Cells", "Effect", "contrast", "mean_weights", "sign_flip_p", "slope_weights", "t_p", "within_p"]

Cells = Sequence[Float[np.ndarray, " _seeds"]]
"""By cell, a difference for each seed, in points; cells may have different numbers of seeds."""

_LEVEL = 0.95
_RESAMPLES = 10_000
_MOST_EXACT = 14
"""Differences up to which all patterns of signs are tried: 2^14."""
_TOLERANCE = 1e-9  # a pattern that is as far does count, also after rounding


@final
@dataclass(frozen=True, kw_only=True)
class Effect:
    """A contrast of cell means.

    Attributes:
        value: Its estimate.
        interval: 95 % t interval.
        bootstrap: 95 % interval of draws with replacement of each cell's seeds; too narrow with few seeds.
        error: Standard error.
        freedom: Degrees of freedom.
    """

    value: float
    interval: Interval
    bootstrap: Interval
    error: float
    freedom: int


def mean_weights(cells: int) -> Float[np.ndarray, " cells"]:
    """Weights of the mean over so many cells, whatever their seeds."""
    return np.full(cells, 1 / cells)


def slope_weights(
    quantities: Float[np.ndarray, " cells"], groups: Sequence[Hashable]
) -> Float[np.ndarray, " cells"] | None:
    """Weights of the least-squares slope over the decimal logarithm of a quantity, with an intercept for each group.

    Args:
        quantities: Of each cell, above zero.
        groups: By cell, what it shares its intercept with.

    Returns:
        The weights, in 1 per tenfold; None if no group has two quantities.
    """
    logs = np.log10(quantities)
    offsets = np.zeros(len(logs))  # [cells]
    for group in dict.fromkeys(groups):
        own = np.array([one == group for one in groups])
        offsets[own] = logs[own] - logs[own].mean()
    spread = float(offsets @ offsets)
    return offsets / spread if spread > _TOLERANCE else None


def contrast(cells: Cells, weights: Float[np.ndarray, " cells"], *, seed: int = 0) -> Effect:
    """A weighted sum of cell means, `sum(w_c mean_c)`, with a t interval.

    The variance within cells is taken to be one, and pooled: `s^2 = sum (d_cs - mean_c)^2 / sum (n_c - 1)`; the
    contrast's is `s^2 sum w_c^2 / n_c`.

    Args:
        cells: At least one of them with two seeds.
        weights: Of each cell.
        seed: Of the bootstrap.

    References:
        Montgomery 2017, §3.5 (contrasts of treatment means); Efron and Tibshirani 1993, §13.3.
    """
    counts = np.array([len(cell) for cell in cells])
    means = np.array([cell.mean() for cell in cells])
    freedom = int((counts - 1).sum())
    variance = sum(float(((cell - mean) ** 2).sum()) for cell, mean in zip(cells, means, strict=True)) / freedom
    value = float(weights @ means)
    error = float(np.sqrt(variance * (weights**2 / counts).sum()))
    reach = float(stats.t.ppf((1 + _LEVEL) / 2, freedom)) * error
    return Effect(
        value=value,
        interval=Interval(value - reach, value + reach),
        bootstrap=_bootstrap(cells, weights, seed),
        error=error,
        freedom=freedom,
    )


def sign_flip_p(cells: Cells, *, margin: float = 0.0, seed: int = 0) -> float:
    """How likely a mean over cells as far from the margin would be, if each difference lay as well above it as below.

    All patterns of signs are tried where they are few; otherwise some are drawn. With three seeds of one cell it cannot
    be less than 2/8.

    Args:
        cells: The differences.
        margin: In points.
        seed: Of the draws.

    References:
        Fisher 1935, §21; Good 2005, §3.2.
    """
    shares = np.concatenate([(cell - margin) / (len(cell) * len(cells)) for cell in cells])  # [differences]
    seen = abs(shares.sum()) - _TOLERANCE
    if len(shares) <= _MOST_EXACT:
        patterns = np.array(list(itertools.product((-1, 1), repeat=len(shares))))
        return float((np.abs(patterns @ shares) >= seen).mean())
    signs = np.random.default_rng(seed).choice((-1, 1), size=(_RESAMPLES, len(shares)))
    return (int((np.abs(signs @ shares) >= seen).sum()) + 1) / (_RESAMPLES + 1)


def t_p(effect: Effect, margin: float = 0.0) -> float:
    """How likely an effect as far from the margin would be, if it were the margin; two-sided, by t."""
    return float(2 * stats.t.sf(_distance(abs(effect.value - margin), effect), effect.freedom))


def within_p(effect: Effect, bound: float) -> float:
    """How likely an effect as far inside `[-bound, bound]` would be, if it were at its edge: two one-sided tests.

    References:
        Schuirmann 1987.
    """
    return float(stats.t.sf(_distance(bound - abs(effect.value), effect), effect.freedom))


def _distance(points: float, effect: Effect) -> float:
    """In standard errors; where seeds do not differ at all, any distance is beyond them."""
    return points / effect.error if effect.error else float(np.sign(points)) * np.inf if points else 0.0


def _bootstrap(cells: Cells, weights: Float[np.ndarray, " cells"], seed: int) -> Interval:
    draws = sum(weight * means for weight, means in zip(weights, _drawn_means(cells, seed), strict=True))
    return Interval(*np.quantile(draws, ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2)).tolist())


def _drawn_means(cells: Cells, seed: int) -> Iterator[Float[np.ndarray, " draws"]]:
    generator = np.random.default_rng(seed)
    for cell in cells:
        yield cell[generator.integers(0, len(cell), (_RESAMPLES, len(cell)))].mean(1)
