"""The table of `softprompt evaluate`: scores with their intervals, and against those of another."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import final

from softprompt.cli.scoring import Found
from softprompt.cli.tables import print_table
from softprompt.evaluation import Evaluation, compare
from softprompt.loop.progress import Bar, Progress
from softprompt.tasks import Task, get_scorer

__all__ = ["ScoreTable", "score_table"]


@final
@dataclass(frozen=True)
class ScoreTable:
    """Scores, ready to print.

    Attributes:
        columns: The headings.
        lines: One for each score.
        notes: What is not in the lines, and why.
    """

    columns: Sequence[str]
    lines: Sequence[Sequence[object]]
    notes: Sequence[str]

    def print(self) -> None:
        """Print the table on standard output, and the notes on standard error."""
        print_table(self.columns, self.lines)
        for note in self.notes:
            print(note, file=sys.stderr)


@final
class _Draws:
    """A bar of draws, which is there once some are made."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name
        self._bar: Bar | None = None

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = self._progress.add(self._name, total=total)
        self._bar.advance(done - self._bar.done)


def score_table(tasks: Sequence[Task], ours: Found, theirs: Found | None, progress: Progress) -> ScoreTable:
    """Draw intervals and test differences.

    Args:
        tasks: The tasks, of several of which the mean of their first scores is told for each split that all have.
        ours: What is scored.
        theirs: What it is compared with on the same rows, if with anything.
        progress: Where draws of the rows have bars.
    """
    columns = ["task", "split", "metric", "score", "95 % from", "to"]
    lines: list[tuple[object, ...]] = []
    notes = [f"{name} is left out: {why}" for found in ours.values() for name, why in found.missing.items()]
    for place, found in ours.items():
        intervals = found.drawn_intervals(_Draws(progress, f"{' '.join(place)} intervals"))
        for metric, score in found.items():
            line = (*place, metric, float(score), *intervals.get(metric, (None, None)))
            if metric not in intervals:
                notes.append(f"{metric} has no interval: it is slow, or fails on some draws of the rows.")
            lines.append(line if theirs is None else (*line, *_compared(found, theirs[place], metric, progress)))
    if theirs is not None:
        columns += ["against", "difference", "95 % from", "to", "p", "test"]
    lines += [(*line, *[None] * (len(columns) - len(line))) for line in _means(tasks, ours)]
    return ScoreTable(columns, lines, list(dict.fromkeys(notes)))


def _compared(first: Evaluation, second: Evaluation, metric: str, progress: Progress) -> tuple[object, ...]:
    if metric not in second:  # the share of illegal labels is of generated ones alone
        return (None,) * 6
    found = compare(first, second, metric, progress=_Draws(progress, f"{first.task} {first.split} {metric} against"))
    if found.interval is None or found.p is None:
        return found.second, found.difference, None, None, None, None
    test = f"{found.test} of {found.draws:,} draws" if found.test == "paired bootstrap" else found.test
    return found.second, found.difference, *found.interval, f"{found.p:.3g}", test


def _means(tasks: Sequence[Task], ours: Found) -> list[tuple[object, ...]]:
    """By split, the mean of what the tasks watch, where there are several and more of each score is better."""
    means: list[tuple[object, ...]] = []
    for split in dict.fromkeys(split for _, split in ours):
        found = [(task, ours.get((task.name, split))) for task in tasks]
        scores = [one[task.watched] for task, one in found if one is not None and task.watched in one]
        less = any(get_scorer(task.metrics[0]).less_is_better for task in tasks)
        if 1 < len(scores) == len(tasks) and not less:
            means.append(("mean", split, "first scores", fmean(scores)))
    return means
