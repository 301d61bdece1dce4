"""What became of a grid's claims: supported, not supported, or undecided with so many seeds."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np

from softprompt.evaluation import Interval
from softprompt.studies.cells import ENSEMBLE
from softprompt.studies.claims import PARAMETERS, Claim, read_claims
from softprompt.studies.grid import TEXT_PROMPT, Grid
from softprompt.studies.measures import unit_of
from softprompt.studies.pairing import facts, pair_up
from softprompt.studies.statistics import (
    Effect,
    contrast,
    mean_weights,
    sign_flip_p,
    slope_weights,
    t_p,
    within_p,
)
from softprompt.studies.summary import Line

__all__ = ["Outcome", "Verdict", "judge"]

Outcome = Literal["supported", "not supported", "undecided", "not tested"]

_FEWEST_SEEDS = 2


@final
@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the lines of a study say of a claim.

    Attributes:
        claim: What was claimed.
        outcome: Where the interval lies: on the claimed side of the margin, on the other, or on both; `not tested`
            where there is nothing to compare.
        effect: Of the better less the worse, in its unit, the mean over cells; of a trend, per tenfold. None if not
            tested.
        low: Lower end of its 95 % interval; None without two seeds in each cell.
        high: Upper end.
        bootstrap: Another 95 % interval, by drawing seeds; nothing is judged by it.
        p: How likely an effect as far from the margin would be, if it lay there: by flips of signs, of a trend by t.
            Of two said to be equal, by two one-sided t tests.
        seeds: Of the cell that has the fewest.
        cells: How many pairs of lines were compared.
        unit: Of the effect.
        reason: Why there is no verdict, and what is to be known about one; empty if there is nothing to say.
    """

    claim: Claim
    outcome: Outcome
    effect: float | None
    low: float | None
    high: float | None
    bootstrap: Interval | None
    p: float | None
    seeds: int
    cells: int
    unit: str
    reason: str


@final
@dataclass(frozen=True, kw_only=True)
class _Pair:
    """Two lines that are compared, and their differences by seed."""

    better: Line
    worse: Line
    differences: tuple[float, ...]

    @property
    def lines(self) -> tuple[Line, Line]:
        return self.better, self.worse

    @property
    def is_refused(self) -> bool:
        """Whether the backbone cannot have one of the two."""
        return any(line.unsupported and not line.scores for line in self.lines)


def judge(grid: Grid, lines: Sequence[Line]) -> list[Verdict]:
    """What became of each claim of a grid, in its order.

    Args:
        grid: That the lines are of.
        lines: From `summarise`.

    Raises:
        ConfigError: If a claim cannot be read.
    """
    return [_judge(grid, claim, lines) for claim in read_claims(grid.claims)]


def _judge(grid: Grid, claim: Claim, lines: Sequence[Line]) -> Verdict:
    told = [facts(line.backbone, line.task, line.method, line.axes) for line in lines]
    pairs = [_pair(claim, lines[one], lines[other]) for one, other in pair_up(claim, told)]
    if claim.others:
        pairs = [pair for pair in pairs if any(label in _further(grid, pair.better) for label in claim.others)]
    scored = [pair for pair in pairs if pair.differences]
    notes = _notes(grid, claim, pairs, scored)
    nothing = Verdict(
        claim=claim, outcome="not tested", effect=None, low=None, high=None, bootstrap=None, p=None, seeds=0, cells=0,
        unit=_unit(grid, claim), reason=" ".join(notes),
    )  # fmt: skip
    if not scored:
        return nothing
    weights = mean_weights(len(scored)) if claim.trend is None else _trend_weights(claim, scored)
    if weights is None:
        return replace(nothing, reason=" ".join((f"A trend needs two values of {claim.trend} at least.", *notes)))
    cells = [np.array(pair.differences) for pair in scored]
    seeds = min(len(cell) for cell in cells)
    found = replace(nothing, outcome="undecided", seeds=seeds, cells=len(cells))
    if seeds < _FEWEST_SEEDS:
        value = float(weights @ np.array([cell.mean() for cell in cells]))
        few = f"A verdict needs two seeds of each comparison at least, and one has {seeds}."
        return replace(found, effect=value, reason=" ".join((few, *notes)))
    effect = contrast(cells, weights)
    low, high = effect.interval
    return replace(
        found,
        outcome=_outcome(claim, effect),
        effect=effect.value,
        low=low,
        high=high,
        bootstrap=effect.bootstrap,
        p=_p(claim, effect, cells),
    )


def _pair(claim: Claim, better: Line, worse: Line) -> _Pair:
    """The differences for each seed that both have; over several further tasks, their mean."""
    labels: Sequence[str | None] = [label for label in claim.others if better.by_seed(label) and worse.by_seed(label)]
    each = [_compared(claim, better, worse, label) for label in (labels if claim.others else [None])]
    seeds = set.intersection(*map(set, each)) if each else set()
    means = tuple(float(np.mean([one[seed] for one in each])) for seed in sorted(seeds))
    return _Pair(better=better, worse=worse, differences=means)


def _compared(claim: Claim, better: Line, worse: Line, label: str | None) -> dict[int, float]:
    ours, theirs = _scores(claim, better, label), _scores(claim, worse, label)
    if claim.reference is not None:
        instead = _reference(claim.reference, better)
        ours, theirs = (ours, instead) if claim.better else (instead, theirs)
    return {seed: ours[seed] - theirs[seed] for seed in ours.keys() & theirs.keys()}


def _reference(reference: float | str, line: Line) -> Mapping[int, float]:
    """By seed, what a line's own values are compared with."""
    return line.measured.get(reference, {}) if isinstance(reference, str) else dict.fromkeys(line.seeds, reference)


def _scores(claim: Claim, line: Line, label: str | None) -> Mapping[int, float]:
    if claim.measure is not None:
        return line.measured.get(claim.measure, {})
    scores = line.by_seed(label)
    if not claim.moved_to:
        return scores
    own = line.by_seed()
    return {seed: score - own[seed] for seed, score in scores.items()}


def _unit(grid: Grid, claim: Claim) -> str:
    unit = "points" if claim.measure is None else unit_of(grid.measures, claim.measure, "measure of a claim")
    return f"{unit} per tenfold of {claim.trend}" if claim.trend else unit


def _further(grid: Grid, line: Line) -> Sequence[str]:
    """Labels of the further tasks that a line's task is tested on."""
    return list(grid.tasks[line.task].get("tested_on") or {})


def _trend_weights(claim: Claim, pairs: Sequence[_Pair]) -> np.ndarray | None:
    return slope_weights(
        np.array([_quantity(claim, pair) for pair in pairs], dtype=float), [_group(claim, pair) for pair in pairs]
    )


def _quantity(claim: Claim, pair: _Pair) -> float:
    """What the difference is said to go with; one of the two lines has it."""
    if claim.trend is None or claim.trend == PARAMETERS:
        return float(pair.better.backbone_parameters or 0)
    return float(next(line.axes[claim.trend] for line in pair.lines if claim.trend in line.axes))


def _group(claim: Claim, pair: _Pair) -> Hashable:
    """What pairs share that differ in that alone."""
    axes = [sorted((key, str(value)) for key, value in line.axes.items() if key != claim.trend) for line in pair.lines]
    backbone = "" if claim.trend == PARAMETERS else pair.better.backbone
    return str((backbone, pair.better.task, pair.better.method, pair.worse.method, axes))


def _outcome(claim: Claim, effect: Effect) -> Outcome:
    low, high = effect.interval
    if claim.within is not None:
        inside = -claim.within < low and high < claim.within
        outside = high < -claim.within or claim.within < low
        return "supported" if inside else "not supported" if outside else "undecided"
    if claim.falls_with:
        low, high = -high, -low
    return "supported" if low > claim.margin else "not supported" if high < claim.margin else "undecided"


def _p(claim: Claim, effect: Effect, cells: Sequence[np.ndarray]) -> float:
    if claim.within is not None:
        return within_p(effect, claim.within)
    if claim.trend:
        return t_p(effect, -claim.margin if claim.falls_with else claim.margin)
    return sign_flip_p(cells, margin=claim.margin)


def _notes(grid: Grid, claim: Claim, pairs: Sequence[_Pair], scored: Sequence[_Pair]) -> list[str]:
    """What is lacking, and what makes a comparison unequal."""
    if not pairs:
        return ["The study has no two lines to compare; run the backbones, tasks and methods that the claim names."]
    notes = []
    refused = [pair for pair in pairs if not pair.differences and pair.is_refused]
    if refused:
        notes.append(f"{_of(refused, pairs)} cannot be: {_refusal(refused[0])}")
    if lacking := [pair for pair in pairs if not pair.differences and not pair.is_refused]:
        notes.append(f"{_of(lacking, pairs)} have no {claim.measure or 'scores'} yet.")
    if fewer := [pair for pair in scored if len(pair.differences) < len(grid.seeds)]:
        notes.append(f"{_of(fewer, pairs)} lack some of the {len(grid.seeds)} seeds.")
    for task, method in dict.fromkeys((line.task, line.method) for pair in scored for line in pair.lines):
        if _is_untuned(grid, task, method):
            notes.append(f"{method} on {task} has one {' and '.join(grid.tune)} alone.")
    return notes


def _of(some: Sequence[_Pair], pairs: Sequence[_Pair]) -> str:
    return f"{len(some)} of {len(pairs)} comparisons"


def _refusal(pair: _Pair) -> str:
    return next(line.unsupported for line in pair.lines if line.unsupported)


def _is_untuned(grid: Grid, task: str, method: str) -> bool:
    """Whether a method that is trained has nothing to choose from of what the grid tunes."""
    settings = grid.settings(task, method)
    tuned = [value for name in grid.tune if isinstance(value := settings.get(name), list | tuple) and len(value) > 1]
    return settings["method"] not in (TEXT_PROMPT, ENSEMBLE) and not tuned
