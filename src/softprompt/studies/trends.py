"""What differences go with: an axis of numbers, the size of the backbone, or what was measured of prompts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float

from softprompt.studies.claims import PARAMETERS, Claim
from softprompt.studies.differences import Pair
from softprompt.studies.families import family_of
from softprompt.studies.grid import Grid
from softprompt.studies.measures import is_measured
from softprompt.studies.statistics import slope_weights, within_correlation

__all__ = ["correlation", "left_out", "split_lone", "trend_unit", "trend_weights"]

_STEP = 10.0
"""Of a measured value, the step that a slope is told for; of an axis and of a size it is a tenfold."""
_DIGITS = 3  # what differs by less is one value


def trend_weights(claim: Claim, pairs: Sequence[Pair]) -> Float[np.ndarray, " pairs"]:
    """Weights of the slope over what the pairs' differences are said to go with.

    Args:
        claim: With a trend.
        pairs: Of one task, none of which is the only one of its group.
    """
    weights = slope_weights(_places(claim, pairs), [_group(claim, pair) for pair in pairs])
    assert weights is not None  # lone ones were left out
    return weights


def split_lone(claim: Claim, pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """The pairs that say something of a claim; and for a trend, those that have the only value of their group."""
    if claim.trend is None:
        return list(pairs), []
    found: dict[Hashable, set[float]] = {}
    for pair in pairs:
        found.setdefault(_group(claim, pair), set()).add(_quantity(claim, pair))
    told = [pair for pair in pairs if len(found[_group(claim, pair)]) > 1]
    return told, [pair for pair in pairs if len(found[_group(claim, pair)]) < 2]


def left_out(claim: Claim, told: Sequence[Pair], lone: Sequence[Pair]) -> list[str]:
    """What is to be known of the pairs that `split_lone` leaves out."""
    if claim.trend is None or not lone:
        return []
    if not told:
        return [f"A trend needs two values of {claim.trend} at least."]
    return [f"{len(lone)} of {len(lone) + len(told)} comparisons are left out, the only {claim.trend} of their kind."]


def correlation(claim: Claim, pairs: Sequence[Pair]) -> str:
    """Pearson's r of a trend over a measured value, as text; empty of other trends, or where there is none."""
    if claim.trend is None or any(pair.measured is None for pair in pairs):
        return ""
    means = np.array([np.mean(pair.differences) for pair in pairs])
    groups = [_group(claim, pair) for pair in pairs]
    r = within_correlation(_places(claim, pairs), means, groups)
    return "" if r is None else f"Within each backbone and method r = {r:+.2f}, over {len(pairs)} means of seeds."


def trend_unit(grid: Grid, claim: Claim, unit: str) -> str:
    """The unit of a slope, from that of differences."""
    step = f"{_STEP:g}" if is_measured(grid.measures, str(claim.trend)) else "tenfold"
    return f"{unit} per {step} of {claim.trend}"


def _places(claim: Claim, pairs: Sequence[Pair]) -> Float[np.ndarray, " pairs"]:
    """Where each pair stands, in the steps that a slope is told for."""
    quantities = np.array([_quantity(claim, pair) for pair in pairs])
    return quantities / _STEP if all(pair.measured is not None for pair in pairs) else np.log10(quantities)


def _quantity(claim: Claim, pair: Pair) -> float:
    """What the difference is said to go with; one of the two lines has it."""
    if pair.measured is not None:
        return round(pair.measured, _DIGITS)
    if claim.trend == PARAMETERS:
        return float(pair.better.backbone_parameters or 0)
    return float(next(line.axes[str(claim.trend)] for line in pair.lines if claim.trend in line.axes))


def _group(claim: Claim, pair: Pair) -> Hashable:
    """What pairs share that have a level in common: all but what the difference is said to go with.

    What is measured follows from the axes, so they do not tell groups apart.
    """
    asked = () if pair.measured is not None else pair.lines
    axes = [sorted((key, str(value)) for key, value in line.axes.items() if key != claim.trend) for line in asked]
    backbone = family_of(pair.better.backbone) if claim.trend == PARAMETERS else pair.better.backbone
    return str((backbone, pair.task, pair.better.method, pair.worse.method, axes))
