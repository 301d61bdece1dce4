"""What became of a grid's claims: supported, not supported, or undecided with so many seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np
from jaxtyping import Float

from softprompt.evaluation import Interval
from softprompt.studies.cells import ENSEMBLE
from softprompt.studies.claims import Claim, read_claims
from softprompt.studies.differences import Pair, compared_pairs
from softprompt.studies.grid import TEXT_PROMPT, Grid
from softprompt.studies.measures import is_count, is_measured, unit_of
from softprompt.studies.outcomes import RowErrors
from softprompt.studies.statistics import (
    LEVEL,
    Effect,
    contrast,
    distance_p,
    mean_weights,
    unpaired_error,
)
from softprompt.studies.summary import Line
from softprompt.studies.trends import correlation, left_out, split_lone, trend_unit, trend_weights

__all__ = ["Finding", "Outcome", "Verdict", "judge"]

Outcome = Literal["supported", "not supported", "undecided", "not tested"]

_DECIDED: tuple[Outcome, ...] = ("supported", "not supported")
_FEWEST_SEEDS = 2
_NO_SPREAD = 1e-9  # what differs by less was rounded
_COUNTED = "It is counted, and sure."
_ALIKE = "The seeds do not differ at all, so nothing is known of how sure it is."
_ROWS_APART = (
    "What came out for each test row was not kept of all, so both sides count as if each had rows of its own, which is"
    " wider."
)
_ROWS_UNKNOWN = "Some scores lack their interval, so the interval of the effect leaves out that their rows were drawn."


@final
@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the lines of one task say of a claim.

    Attributes:
        task: The task's label.
        metric: Whose scores are compared, or the measure.
        outcome: Where the interval lies: on the claimed side of the margin, on the other, or on both.
        effect: Of the better less the worse, in its unit, the mean over cells; of a trend, per tenfold, or per ten of
            what was measured.
        low: Lower end of its interval of seeds and rows; None where nothing is known of how sure it is.
        high: Upper end.
        bootstrap: Its 95 % interval by drawing seeds alone; nothing is judged by it.
        p: How likely an effect as far from the margin would be, if it lay there; not corrected for other tasks.
        seeds: Of the cell that has the fewest.
        cells: How many pairs of lines were compared.
        unit: Of the effect.
        reason: What is to be known about it; empty if nothing is.
    """

    task: str
    metric: str
    outcome: Outcome
    effect: float
    low: float | None = None
    high: float | None = None
    bootstrap: Interval | None = None
    p: float | None = None
    seeds: int
    cells: int
    unit: str
    reason: str = ""


@final
@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the lines of a study say of a claim.

    Attributes:
        claim: What was claimed.
        outcome: What the tasks that are decided say with one voice; `undecided` if none is, or if they disagree;
            `not tested` where there is nothing to compare.
        findings: Of each task that has scores.
        level: Of the intervals of findings, so that all of them together hold what is true in 95 of 100 studies
            (Bonferroni).
        reason: Why there is no verdict, and what is to be known about one; empty if there is nothing to say.
    """

    claim: Claim
    outcome: Outcome
    findings: tuple[Finding, ...]
    level: float
    reason: str

    @property
    def decided(self) -> tuple[Finding, ...]:
        """The findings that are one or the other."""
        return tuple(finding for finding in self.findings if finding.outcome in _DECIDED)


def judge(grid: Grid, lines: Sequence[Line]) -> list[Verdict]:
    """What became of each claim of a grid, in its order.

    Args:
        grid: That the lines are of.
        lines: From `summarise`.

    Raises:
        ConfigError: If a claim cannot be read.
    """
    return [_judge(grid, claim, compared_pairs(grid, claim, lines)) for claim in read_claims(grid.claims)]


def _judge(grid: Grid, claim: Claim, pairs: Sequence[Pair]) -> Verdict:
    scored = [pair for pair in pairs if pair.differences]
    told, lone = split_lone(claim, scored)
    tasks = {task: [pair for pair in told if pair.task == task] for task in dict.fromkeys(pair.task for pair in told)}
    looks = sum(_is_sure(cells) for cells in tasks.values())
    level = 1 - (1 - LEVEL) / max(looks, 1)
    findings = tuple(_find(grid, claim, cells, level) for cells in tasks.values())
    outcomes = {finding.outcome for finding in findings}
    decided = [outcome for outcome in _DECIDED if outcome in outcomes]
    outcome: Outcome = "not tested" if not findings else decided[0] if len(decided) == 1 else "undecided"
    notes = _over_tasks(findings, looks, level, disagree=len(decided) > 1)
    notes += left_out(claim, told, lone) + _notes(grid, claim, pairs, scored)
    return Verdict(claim=claim, outcome=outcome, findings=findings, level=level, reason=" ".join(notes))


def _find(grid: Grid, claim: Claim, pairs: Sequence[Pair], level: float) -> Finding:
    """What the pairs of one task come to."""
    cells = [np.array(pair.differences) for pair in pairs]
    weights = mean_weights(len(pairs)) if claim.trend is None else trend_weights(claim, pairs)
    value = float(weights @ np.array([cell.mean() for cell in cells]))
    found = Finding(
        task=pairs[0].task,
        metric=claim.measure or pairs[0].better.metric,
        outcome="undecided",
        effect=value,
        seeds=min(len(cell) for cell in cells),
        cells=len(cells),
        unit=_unit(grid, claim),
    )
    if claim.measure is not None and is_count(grid.measures, claim.measure):
        return replace(found, outcome=_outcome(claim, Interval(value, value)), reason=_COUNTED)
    if found.seeds < _FEWEST_SEEDS:
        few = f"A verdict needs two seeds of each comparison at least, and one has {found.seeds}."
        return replace(found, reason=few)
    if not _is_sure(pairs):
        return replace(found, reason=_ALIKE)
    rows_error, reason = _rows_error(pairs, weights)
    effect = contrast(cells, weights, rows_error=rows_error, level=level)
    return replace(
        found,
        outcome=_outcome(claim, effect.interval),
        low=effect.interval.low,
        high=effect.interval.high,
        bootstrap=effect.bootstrap,
        p=distance_p(effect, _distance(claim, effect)),
        reason=" ".join(filter(None, (correlation(claim, pairs), reason))),
    )


def _rows_error(pairs: Sequence[Pair], weights: Float[np.ndarray, " pairs"]) -> tuple[float, str]:
    """Standard error of a contrast as test rows were drawn, and what is to be known about it."""
    errors = [pair.row_errors for pair in pairs if pair.row_errors is not None]
    if len(errors) == len(pairs):
        parts = [error * weight for error, weight in zip(errors, weights.tolist(), strict=True)]
        return sum(parts, RowErrors()).standard_error, ""
    apart = np.array([math.nan if pair.unpaired_error is None else pair.unpaired_error for pair in pairs])
    reason = _ROWS_UNKNOWN if np.isnan(apart).any() else _ROWS_APART
    return unpaired_error(weights, np.nan_to_num(apart)), reason


def _is_sure(pairs: Sequence[Pair]) -> bool:
    """Whether their seeds tell how sure their differences are."""
    cells = [pair.differences for pair in pairs]
    return all(len(cell) >= _FEWEST_SEEDS for cell in cells) and any(np.ptp(cell) > _NO_SPREAD for cell in cells)


def _unit(grid: Grid, claim: Claim) -> str:
    unit = "points" if claim.measure is None else unit_of(grid.measures, claim.measure, "measure of a claim")
    return trend_unit(grid, claim, unit) if claim.trend else unit


def _outcome(claim: Claim, interval: Interval) -> Outcome:
    low, high = interval
    if claim.within is not None:
        inside = -claim.within < low and high < claim.within
        outside = high < -claim.within or claim.within < low
        return "supported" if inside else "not supported" if outside else "undecided"
    if claim.falls_with:
        low, high = -high, -low
    return "supported" if low > claim.margin else "not supported" if high < claim.margin else "undecided"


def _distance(claim: Claim, effect: Effect) -> float:
    """From the margin, in the effect's unit."""
    if claim.within is not None:
        return claim.within - abs(effect.value)
    return (-effect.value if claim.falls_with else effect.value) - claim.margin


def _over_tasks(findings: Sequence[Finding], looks: int, level: float, *, disagree: bool) -> list[str]:
    """How several tasks were put together."""
    if len(findings) < 2:
        return [finding.reason for finding in findings if finding.reason]
    decided = sum(finding.outcome in _DECIDED for finding in findings)
    notes = [f"Decided on {decided} of {len(findings)} tasks" + (", which disagree." if disagree else ".")]
    if looks > 1:
        notes.append(f"Each interval is of {100 * level:.3g} %, so that all {looks} are of 95 % together.")
    return notes + [f"{', '.join(tasks)}: {reason}" for reason, tasks in _by_reason(findings).items()]


def _by_reason(findings: Sequence[Finding]) -> dict[str, list[str]]:
    """By what is to be known, the tasks that it is to be known of."""
    tasks: dict[str, list[str]] = {}
    for finding in findings:
        if finding.reason:
            tasks.setdefault(finding.reason, []).append(finding.task)
    return tasks


def _notes(grid: Grid, claim: Claim, pairs: Sequence[Pair], scored: Sequence[Pair]) -> list[str]:
    """What is lacking, and what makes a comparison unequal."""
    if not pairs:
        return ["The study has no two lines to compare; run the backbones, tasks and methods that the claim names."]
    notes = []
    refused = [pair for pair in pairs if not pair.differences and pair.is_refused]
    if refused:
        notes.append(f"{_of(refused, pairs)} cannot be: {_refusal(refused[0])}")
    if lacking := [pair for pair in pairs if not pair.differences and not pair.is_refused]:
        notes.append(f"{_of(lacking, pairs)} have no {_compared_value(grid, claim)} yet.")
    if fewer := [pair for pair in scored if 1 < len(pair.differences) < len(grid.seeds)]:
        notes.append(f"{_of(fewer, pairs)} lack some of the {len(grid.seeds)} seeds.")
    for task, method in dict.fromkeys((line.task, line.method) for pair in scored for line in pair.lines):
        if _is_untuned(grid, task, method):
            notes.append(f"{method} on {task} has one {' and '.join(grid.tune)} alone.")
    return notes


def _compared_value(grid: Grid, claim: Claim) -> str:
    """What a pair must have to say something."""
    what = claim.measure or "scores"
    return f"{what} with {claim.trend}" if claim.trend and is_measured(grid.measures, claim.trend) else what


def _of(some: Sequence[Pair], pairs: Sequence[Pair]) -> str:
    return f"{len(some)} of {len(pairs)} comparisons"


def _refusal(pair: Pair) -> str:
    return next(line.unsupported for line in pair.lines if line.unsupported)


def _is_untuned(grid: Grid, task: str, method: str) -> bool:
    """Whether a method that is trained has nothing to choose from of what the grid tunes."""
    settings = grid.settings(task, method)
    tuned = [value for name in grid.tune if isinstance(value := settings.get(name), list | tuple) and len(value) > 1]
    return settings["method"] not in (TEXT_PROMPT, ENSEMBLE) and not tuned
