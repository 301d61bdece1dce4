"""Claims that a study is held to: what is better than what, by how much, and what the difference goes with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from softprompt.config import from_mapping
from softprompt.errors import ConfigError
from softprompt.studies.measures import OF_MEMBERS

__all__ = ["FAMILY", "PARAMETERS", "SIZE", "Claim", "read_claims"]

PARAMETERS = "backbone_parameters"
"""What a difference may go with besides the axes of a grid."""
FAMILY, SIZE = "family", "size"
"""What a backbone is known by besides its name: the name without the word for its size, and that word."""
_MAPPINGS = ("better", "worse", "among")
_EITHER = (
    *(("rises_with", "falls_with"), ("tested_on", "moved_to"), ("within", "trend"), ("within", "margin")),
    *(("measure", "tested_on"), ("measure", "moved_to")),
)


@final
@dataclass(frozen=True, kw_only=True)
class Claim:
    """That some lines of a study score higher than others.

    A side is named by what its lines have: `method`, `task`, `backbone` (labels of the grid), the backbone's `family`
    (its name without the word for its size; one or several) or `size` (that word), or the value of an axis. Two lines
    are compared if they are equal in all that neither side names, in size too where families are named; each such pair
    is a cell. Every task is judged by itself.

    Attributes:
        says: The claim, in a sentence.
        better: What the lines have that are said to score higher.
        worse: What those have that they are compared with.
        measure: What is compared instead of scores: a value that the grid's measures give, of which more counts as
            higher.
        reference: What stands in for the lines of the side that is not named: a number, or another measured value of
            the same lines; of ensembles' scores also `members_mean` or `members_best`.
        among: By the same names, the values that both sides are narrowed to.
        number: Of the claim in a list of claims; None without one.
        source: Who says so.
        margin: Points by which the difference must exceed zero; negative: at most so many points worse. Of a trend,
            points per tenfold, or per ten of a measured value.
        within: Points within which both are said to be equal, instead of one better.
        rises_with: An axis of numbers, or `backbone_parameters`, with whose logarithm the difference grows; or a value
            that the grid's measures give, with which it grows as it is: that of the better side, if both have one.
        falls_with: The same, with which it shrinks.
        tested_on: Labels of further tasks whose scores are compared instead of the task's own.
        moved_to: The same; what is compared is how the score changes from the task's own to theirs.

    Raises:
        ConfigError: If it says nothing, or two things at once.
    """

    says: str
    better: Mapping[str, Any] = field(default_factory=dict)
    worse: Mapping[str, Any] = field(default_factory=dict)
    measure: str | None = None
    reference: float | str | None = None
    among: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    number: int | None = None
    source: str = ""
    margin: float = 0.0
    within: float | None = None
    rises_with: str | None = None
    falls_with: str | None = None
    tested_on: Sequence[str] = ()
    moved_to: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("tested_on", "moved_to", *self.among):
            found = self.among.get(name) if name in self.among else getattr(self, name)
            if isinstance(found, str) or not isinstance(found, Sequence):
                raise ConfigError(f"{self.title}: {name} is a list; put the single value into one.")
        if not self.says.strip():
            raise ConfigError("A claim says nothing; put it into a sentence.")
        if self.reference is None and not (self.better and self.worse):
            raise ConfigError(f"{self.title} needs better and worse, or one of them and a reference.")
        if self.reference is not None and self.better and self.worse:
            raise ConfigError(f"{self.title}: its reference stands in for one side; leave out better or worse.")
        if self.reference is not None and not (self.better or self.worse):
            raise ConfigError(f"{self.title}: its reference stands in for one side; name the other, better or worse.")
        if isinstance(self.reference, str) and self.measure is None and self.reference not in OF_MEMBERS:
            raise ConfigError(f"{self.title}: its reference {self.reference!r} is a measure; name the measure too.")
        if dict(self.better) == dict(self.worse):
            raise ConfigError(f"{self.title}: better and worse name the same lines; name what tells them apart.")
        for first, second in _EITHER:
            if getattr(self, first) not in (None, ()) and getattr(self, second) not in (None, (), 0.0):
                raise ConfigError(f"{self.title}: it has both {first} and {second}; make two claims of it.")
        if self.trend in self.named:
            raise ConfigError(f"{self.title}: {self.trend} is what the difference goes with; name it on neither side.")
        if self.within is not None and not 0 < self.within < math.inf:
            raise ConfigError(f"{self.title}: within={self.within}; expected points above zero.")
        if isinstance(self.reference, float) and not math.isfinite(self.reference):
            raise ConfigError(f"{self.title}: reference={self.reference}; expected a number or a measure.")
        if not math.isfinite(self.margin):
            raise ConfigError(f"{self.title}: margin={self.margin}; expected points.")

    @property
    def title(self) -> str:
        """What errors call it."""
        return f"The claim {self.says!r}"

    @property
    def trend(self) -> str | None:
        """What the difference is said to go with; None if it is its mean that is spoken of."""
        return self.rises_with or self.falls_with

    @property
    def others(self) -> Sequence[str]:
        """Labels of the further tasks that count; empty if it is the task's own score."""
        return self.tested_on or self.moved_to

    @property
    def named(self) -> frozenset[str]:
        """What either side names, in which the lines of a pair may differ."""
        return frozenset((*self.better, *self.worse))


def read_claims(claims: Any) -> list[Claim]:
    """Claims from their settings.

    Args:
        claims: What a grid's file says of them: mappings in a list.

    Raises:
        ConfigError: If one has an unknown setting, lacks one, or checks itself in vain.
    """
    if not isinstance(claims, Sequence) or not all(isinstance(claim, Mapping) for claim in claims):
        raise ConfigError("claims: expected a list of mappings, each with says, better and worse.")
    for claim in claims:
        for name in _MAPPINGS:
            if name in claim and not isinstance(claim[name], Mapping):
                raise ConfigError(f"{name} of a claim is a mapping, such as {{method: LABEL}}, not {claim[name]!r}.")
    return [from_mapping(Claim, claim) for claim in claims]
