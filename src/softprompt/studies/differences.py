"""The lines that a claim compares, and by how much they differ: for each seed, and as their test rows were drawn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from softprompt.studies.claims import Claim
from softprompt.studies.grid import TEXT_PROMPT, Grid
from softprompt.studies.measures import is_count, is_measured
from softprompt.studies.outcomes import RowErrors
from softprompt.studies.pairing import facts, pair_up
from softprompt.studies.summary import Line

__all__ = ["Pair", "compared_pairs"]


@final
@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two lines that are compared.

    Attributes:
        better: That is said to score higher.
        worse: That it is compared with.
        differences: By seed, in the order of seeds; one alone if neither line depends on its seed.
        row_errors: How their mean errs as rows were drawn; of what is no score, not at all. None where a score's
            outcomes were not kept.
        unpaired_error: Standard error of the same as if each line had rows of its own, and all seeds erred alike. Of
            lines that were scored on the same rows it is more than their difference errs. Zero of what is no score;
            None where a score lacks its interval.
        measured: What the differences are said to go with, if that was measured: the mean over the same seeds.
    """

    better: Line
    worse: Line
    differences: tuple[float, ...]
    row_errors: RowErrors | None
    unpaired_error: float | None
    measured: float | None = None

    @property
    def lines(self) -> tuple[Line, Line]:
        """Both of them."""
        return self.better, self.worse

    @property
    def task(self) -> str:
        """The label of the task that they are judged on."""
        return self.better.task

    @property
    def is_refused(self) -> bool:
        """Whether the backbone cannot have one of the two."""
        return any(line.unsupported and not line.scores for line in self.lines)


def compared_pairs(grid: Grid, claim: Claim, lines: Sequence[Line]) -> list[Pair]:
    """The pairs that a claim compares, those without scores included.

    Args:
        grid: That the lines are of.
        claim: Of the grid.
        lines: From `summarise`.
    """
    told = [facts(line.backbone, line.task, line.method, line.axes) for line in lines]
    pairs = [_pair(grid, claim, lines[one], lines[other]) for one, other in pair_up(claim, told)]
    if not claim.others:
        return pairs
    return [pair for pair in pairs if any(label in _further(grid, pair.better) for label in claim.others)]


def _further(grid: Grid, line: Line) -> Sequence[str]:
    """Labels of the further tasks that a line's task is tested on."""
    return list(grid.tasks[line.task].get("tested_on") or {})


def _pair(grid: Grid, claim: Claim, better: Line, worse: Line) -> Pair:
    """The differences for each seed that both have; over several further tasks, their mean."""
    further = [label for label in claim.others if better.by_seed(label) and worse.by_seed(label)]
    labels: Sequence[str | None] = further if claim.others else [None]
    each = [_compared(claim, better, worse, label) for label in labels]
    goes_with = _goes_with(grid, claim, better, worse)
    asked = each if goes_with is None else [*each, goes_with]
    seeds = sorted(set.intersection(*map(set, asked))) if each else []
    means = [float(np.mean([one[seed] for one in each])) for seed in seeds]
    if not any(_is_drawn(grid, claim, line) for line in (better, worse)):
        means = means[:1]
    return Pair(
        better=better,
        worse=worse,
        differences=tuple(means),
        row_errors=_row_errors(claim, better, worse, labels, seeds),
        unpaired_error=_unpaired_error(claim, better, worse, labels, seeds),
        measured=float(np.mean([goes_with[seed] for seed in seeds])) if goes_with and seeds else None,
    )


def _goes_with(grid: Grid, claim: Claim, better: Line, worse: Line) -> Mapping[int, float] | None:
    """By seed, the measured value that the difference is said to go with; one of the two lines has it."""
    if claim.trend is None or not is_measured(grid.measures, claim.trend):
        return None
    return better.measured.get(claim.trend) or worse.measured.get(claim.trend, {})


def _is_drawn(grid: Grid, claim: Claim, line: Line) -> bool:
    """Whether another seed could change what is compared of a line: not of words without examples."""
    if claim.measure is not None and is_count(grid.measures, claim.measure):
        return True
    settings = {**grid.settings(line.task, line.method), **line.axes}
    shots = settings.get("shots")
    return settings["method"] != TEXT_PROMPT or any(shots if isinstance(shots, list | tuple) else [shots])


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


def _row_errors(
    claim: Claim, better: Line, worse: Line, labels: Sequence[str | None], seeds: Sequence[int]
) -> RowErrors | None:
    """Of the mean over seeds and labels; None if outcomes of one of the scores were not kept."""
    if claim.measure is not None:
        return RowErrors()
    total, weight = RowErrors(), 1 / max(1, len(seeds) * len(labels))
    for seed, label in itertools.product(seeds, labels):
        ours, theirs = _errors(claim, better, label, seed), _errors(claim, worse, label, seed)
        if claim.reference is not None:
            instead = _errors_of_reference(claim.reference, better, seed)
            ours, theirs = (ours, instead) if claim.better else (instead, theirs)
        if ours is None or theirs is None:
            return None
        total += (ours - theirs) * weight
    return total


def _errors(claim: Claim, line: Line, label: str | None, seed: int) -> RowErrors | None:
    found = line.row_errors.get(label, {}).get(seed)
    if not claim.moved_to:
        return found
    own = line.row_errors[None].get(seed)
    return None if found is None or own is None else found - own


def _errors_of_reference(reference: float | str, line: Line, seed: int) -> RowErrors | None:
    return line.row_errors.get(reference, {}).get(seed) if isinstance(reference, str) else RowErrors()


def _unpaired_error(
    claim: Claim, better: Line, worse: Line, labels: Sequence[str | None], seeds: Sequence[int]
) -> float | None:
    if claim.measure is not None:
        return 0.0
    sides = (better,) if isinstance(claim.reference, int | float) else (better, worse)
    variances = [_variance(claim, line, label, seeds) for line in sides for label in labels]
    total = math.sqrt(sum(variances)) / max(1, len(labels))
    return None if math.isnan(total) else total


def _variance(claim: Claim, line: Line, label: str | None, seeds: Sequence[int]) -> float:
    """Of a line's scores, as rows were drawn, on average; not a number if one lacks its interval."""
    asked = (label, None) if claim.moved_to else (label,)
    found = [sum(line.errors.get(one, {}).get(seed, math.nan) ** 2 for one in asked) for seed in seeds]
    return float(np.mean(found)) if found else 0.0
