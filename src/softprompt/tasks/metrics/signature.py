"""What a metric takes and gives, and what it can say of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

from softprompt.errors import ConfigError

__all__ = ["Answers", "Metric", "Scorer", "described"]

Metric: TypeAlias = Callable[[Sequence[str], Sequence[Sequence[str]]], dict[str, float]]
"""From one prediction and one or more references per row to scores by name: in percent, or on the scale that the metric
is known by (NIST, CIDEr). More is better; where less is, a `Scorer` says so."""


@final
@dataclass(frozen=True, kw_only=True)
class Answers:
    """What was said, what is right, and what a metric may know besides.

    Attributes:
        predictions: One text per row.
        references: One or more texts per row.
        labels: The legal targets in the task's order, so the second of two is the positive one; none in free text.
        groups: By row, the name of its group; None where each row is scored by itself.
    """

    predictions: Sequence[str]
    references: Sequence[Sequence[str]]
    labels: tuple[str, ...] = ()
    groups: Sequence[str] | None = None

    def row(self, index: int) -> Answers:
        """One row alone."""
        return Answers(
            predictions=[self.predictions[index]],
            references=[self.references[index]],
            labels=self.labels,
            groups=None if self.groups is None else [self.groups[index]],
        )

    def repeated(self, counts: Iterable[int]) -> Answers:
        """Each row as often as its count says; a group that comes again is another group.

        Args:
            counts: How often, by row; the same for all rows of a group.
        """
        drawn = [(row, copy) for row, count in enumerate(counts) for copy in range(count)]
        return Answers(
            predictions=[self.predictions[row] for row, _ in drawn],
            references=[self.references[row] for row, _ in drawn],
            labels=self.labels,
            groups=None if self.groups is None else [f"{copy} {self.groups[row]}" for row, copy in drawn],
        )


@final
@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A metric that needs more than texts, or is to be read in another way than most.

    Attributes:
        function: From answers to scores by name.
        scores: The names of the scores, the one to choose a checkpoint by first.
        binary: Whether there must be two labels, of which the second is the positive one.
        grouped: Whether rows must have groups.
        less_is_better: Whether it counts errors, so that no checkpoint can be chosen by it.
        slow: Whether it starts another program or takes seconds for hundreds of rows, so that training computes it only
            to choose checkpoints by it, and it is not computed anew for draws of the rows: one of another package has
            no interval.
    """

    function: Callable[[Answers], dict[str, float]]
    scores: tuple[str, ...]
    binary: bool = False
    grouped: bool = False
    less_is_better: bool = False
    slow: bool = False

    def check(self, name: str, labels: Sequence[str], *, grouped: bool) -> None:
        """Refuse what cannot be scored.

        Args:
            name: The metric's name.
            labels: The legal targets.
            grouped: Whether rows have groups.

        Raises:
            ConfigError: If it needs two labels or groups, and they are lacking.
        """
        if self.binary and len(labels) != 2:
            raise ConfigError(
                f"The metric {name!r} needs two labels, of which the second is the positive one, but got "
                f"{len(labels)} ({', '.join(labels) or 'free text'}); give two label words, or leave the metric out."
            )
        if self.grouped and not grouped:
            raise ConfigError(
                f"The metric {name!r} scores groups of rows, but nothing says which rows belong together; name the "
                "column that they have in common (group), or leave the metric out."
            )


def described(name: str, metric: Metric | Scorer) -> Scorer:
    """A metric as a scorer: a plain function gives the score of its name.

    Args:
        name: The metric's name.
        metric: The metric.
    """
    match metric:
        case Scorer():
            return metric
        case _:
            return Scorer(function=lambda answers: metric(answers.predictions, answers.references), scores=(name,))
