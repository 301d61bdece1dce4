"""Which lines of a study a claim compares."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from softprompt.config import choose
from softprompt.errors import ConfigError
from softprompt.studies.cells import comparable
from softprompt.studies.claims import FAMILY, PARAMETERS, SIZE, Claim, read_claims
from softprompt.studies.families import family_of, size_of
from softprompt.studies.grid import TESTED_ON, Grid
from softprompt.studies.measures import is_measured, unit_of
from softprompt.studies.sources import as_told

__all__ = ["Facts", "check_claims", "facts", "pair_up"]

Facts = Mapping[str, Any]
"""What tells a line from others: `backbone`, `task`, `method`, and the values of its axes."""
_BACKBONE = "backbone"
_OF_BACKBONE = (_BACKBONE, FAMILY, SIZE)
"""Of which one that is named lets the backbone differ; with the family named, sizes stay equal."""


def facts(backbone: str, task: str, method: str, axes: Mapping[str, Any]) -> Facts:
    """What tells a line from others.

    Args:
        backbone: Its name.
        task: The task's label.
        method: The method's label.
        axes: Values of the grid's axes that are not tuned.
    """
    return {"backbone": backbone, "task": task, "method": method, **axes}


def pair_up(claim: Claim, lines: Sequence[Facts]) -> list[tuple[int, int]]:
    """The places of the lines that a claim compares: of the better, and of the worse; with a reference twice the same.

    Args:
        claim: What is compared.
        lines: Of a study.
    """
    apart = _apart(claim)
    lines = [_with_family(line) for line in lines]

    def has(line: Facts, wanted: Mapping[str, Any]) -> bool:
        return all(name in line and line[name] in _values(name, value) for name, value in wanted.items())

    def among(line: Facts) -> bool:
        return all(line.get(name) in [comparable(value) for value in values] for name, values in claim.among.items())

    def rest(line: Facts) -> dict[str, Any]:
        return {name: value for name, value in line.items() if name not in apart}

    def in_step(one: Facts, other: Facts) -> bool:
        """Whether a trend's axis has one value in both, or only one of them has it."""
        return claim.trend is None or len({line[claim.trend] for line in (one, other) if claim.trend in line}) < 2

    if claim.reference is not None:
        named = claim.better or claim.worse
        return [(place, place) for place, line in enumerate(lines) if among(line) and has(line, named)]
    better = [place for place, line in enumerate(lines) if among(line) and has(line, claim.better)]
    worse = [place for place, line in enumerate(lines) if among(line) and has(line, claim.worse)]
    return [
        (one, other)
        for one, other in itertools.product(better, worse)
        if one != other and rest(lines[one]) == rest(lines[other]) and in_step(lines[one], lines[other])
    ]


def _apart(claim: Claim) -> frozenset[str | None]:
    """In what the lines of a pair may differ."""
    named = claim.named | {claim.trend}
    if _BACKBONE in named:
        return named.union(_OF_BACKBONE)
    return named | {_BACKBONE} if named.intersection(_OF_BACKBONE) else named


def _with_family(line: Facts) -> Facts:
    return {**line, FAMILY: family_of(line[_BACKBONE]), SIZE: size_of(line[_BACKBONE])}


def _values(name: str, value: Any) -> Sequence[Any]:
    """What a side lets its lines have of a name: of families also several."""
    return value if name == FAMILY and isinstance(value, list | tuple) else [comparable(value)]


def check_claims(grid: Grid) -> None:
    """Refuse claims that no line of their grid can answer.

    Backbones that a claim names beside the grid's count as the grid's: a study may be given others. So it may of other
    families, so those that a side names are not looked for.

    Raises:
        ConfigError: If a claim names what no line has, compares nothing, or counts a line twice.
    """
    for claim in read_claims(grid.claims):
        lines = list(_lines(grid, claim))
        for side in (claim.better, claim.worse):
            for name, value in side.items():
                _check_value(claim, name, [value], lines)
        for name, values in claim.among.items():
            _check_value(claim, name, values, lines)
        others = [label for task in grid.tasks.values() for label in task.get(TESTED_ON) or {}]
        for label in claim.others:
            if label not in others:
                raise choose(f"further task of {_lowered(claim)}", label, others)
        _check_measures(grid, claim)
        _check_trend(grid, claim, lines)
        pairs = pair_up(claim, lines)
        if not pairs and FAMILY not in claim.named:
            raise ConfigError(
                f"{claim.title} compares no two lines of the grid {grid.name!r}: its sides must have the same axes but"
                " for those that they name; name what else tells them apart."
            )
        if claim.trend is None:
            _check_once(claim, pairs, lines)


def _lines(grid: Grid, claim: Claim) -> Iterator[Facts]:
    named = [side["backbone"] for side in (claim.better, claim.worse) if "backbone" in side]
    backbones = dict.fromkeys([*grid.backbones, *named, *claim.among.get("backbone", ())])
    for backbone, (task, method) in itertools.product(backbones, grid.pairs):
        axes = grid.axes(task, method)
        for values in itertools.product(*axes.values()):
            told = as_told(dict(zip(axes, map(comparable, values), strict=True)))
            yield facts(backbone, task, method, told)


def _check_value(claim: Claim, name: str, values: Iterable[Any], lines: Sequence[Facts]) -> None:
    if name == FAMILY:
        return
    lines = [_with_family(line) for line in lines]
    if not any(name in line for line in lines):
        raise choose(f"axis of {_lowered(claim)}", name, {key for line in lines for key in line})
    known = {str(line[name]) for line in lines if name in line}
    for value in values:
        if str(comparable(value)) not in known:
            raise choose(f"{name} of {_lowered(claim)}", str(value), known)


def _check_measures(grid: Grid, claim: Claim) -> None:
    if claim.measure is None:
        return
    values = [name for name in (claim.measure, claim.reference) if isinstance(name, str)]
    units = {name: unit_of(grid.measures, name, f"measure of {_lowered(claim)}") for name in values}
    if len(set(units.values())) > 1:
        told = " with ".join(f"{name} ({unit})" for name, unit in units.items())
        raise ConfigError(f"{claim.title} compares {told}; compare values of one unit.")


def _check_trend(grid: Grid, claim: Claim, lines: Sequence[Facts]) -> None:
    if claim.trend is None or claim.trend == PARAMETERS or is_measured(grid.measures, claim.trend):
        return
    found = [line[claim.trend] for line in lines if claim.trend in line]
    if not found:
        axes = {key for line in lines for key in line} - {_BACKBONE, "task", "method"}
        raise choose(f"axis of {_lowered(claim)}", str(claim.trend), {*axes, PARAMETERS})
    for value in found:
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise ConfigError(
                f"{claim.title}: {claim.trend} has the value {value!r}; a trend needs numbers above zero."
            )


def _check_once(claim: Claim, pairs: Sequence[tuple[int, int]], lines: Sequence[Facts]) -> None:
    for side in zip(*pairs, strict=True):
        place, times = Counter(side).most_common(1)[0]
        if times > 1:
            what = ", ".join(f"{name} {value}" for name, value in lines[place].items())
            raise ConfigError(
                f"{claim.title} compares one line ({what}) with {times} others; name on both sides what they differ in."
            )


def _lowered(claim: Claim) -> str:
    return claim.title[0].lower() + claim.title[1:]
