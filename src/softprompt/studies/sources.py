"""Methods that need what others learned: runs that start from another's prompt, and ensembles of several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args

from softprompt.config import choose
from softprompt.errors import ConfigError
from softprompt.prompts import Combine
from softprompt.studies.cells import ENSEMBLE, ONLY_ON, STARTS_FROM, TEXT_PROMPT, Source
from softprompt.studies.measures import compares_starts
from softprompt.studies.task_settings import OPTIONAL, without_paths
from softprompt.training import WEIGHT_METHODS

if TYPE_CHECKING:
    from softprompt.studies.grid import Grid

__all__ = ["as_told", "check_sources", "find_alone", "find_source", "kept_methods", "reached"]

_STARTS = ("init", "source", "text")
_NAMED = {"task", "method"}
_UNTRAINED = (TEXT_PROMPT, ENSEMBLE)


def find_source(grid: Grid, task: str, settings: Mapping[str, Any], seed: int) -> Source | None:
    """The prompts that a cell needs, or None if it needs none.

    A run starts from that of the run with its own seed. Draw d of an ensemble of N has those of the seeds d·N to
    d·N + N - 1, so that no two draws share a member.

    Args:
        grid: The grid.
        task: The cell's task.
        settings: The cell's, of which no setting has several values.
        seed: The cell's.
    """
    if settings["method"] == ENSEMBLE:
        first = seed * settings["members"]
        seeds, where, what = tuple(range(first, first + settings["members"])), task, settings["of"]
    elif named := settings.get(STARTS_FROM):
        seeds, where, what = (seed,), named["task"], named["method"]
    else:
        return None
    return Source(task=where, method=what, seeds=seeds, said=_said(grid, where, what))


def find_alone(grid: Grid, task: str, settings: Mapping[str, Any], seed: int) -> Source | None:
    """The prompt that a run's start is compared with: what the same method learned on the run's own task.

    Args:
        grid: The grid.
        task: The cell's task.
        settings: The cell's, of which no setting has several values.
        seed: The cell's.

    Returns:
        That of the run with the cell's seed; None if no measure compares them, or the start is that very prompt.
    """
    named = settings.get(STARTS_FROM)
    if not named or named["task"] == task or not compares_starts(grid.measures):
        return None
    return Source(task=task, method=named["method"], seeds=(seed,), said=_said(grid, task, named["method"]))


def kept_methods(methods: Mapping[str, Mapping[str, Any]], tasks: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Methods for some of a grid's tasks: those that are run on none of them are left out."""
    kept: dict[str, Mapping[str, Any]] = {}
    for label, settings in methods.items():
        only = settings.get(ONLY_ON)
        if only is None:
            kept[label] = settings
        elif own := [task for task in only if task in tasks]:
            kept[label] = {**settings, ONLY_ON: own}
    return kept


def as_told(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with what a run starts from as a text, as rows and summaries tell it."""
    named = settings.get(STARTS_FROM)
    return {**settings, STARTS_FROM: f"{named['method']} on {named['task']}"} if named else dict(settings)


def reached(grid: Grid, task: str, method: str) -> dict[tuple[str, str], None]:
    """A task and a method by their labels, and those that it needs, directly or through others."""
    found: dict[tuple[str, str], None] = {}
    waiting = [(task, method)]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found[one] = None
            waiting += _needed(grid, *one)
    return found


def check_sources(grid: Grid) -> None:
    """Refuse what names no prompts of the grid, or names its own.

    Raises:
        ConfigError: If a label is unknown, a method learns no prompt, something needs itself, or a setting is wrong.
    """
    for label, settings in grid.methods.items():
        if settings["method"] == ENSEMBLE:
            _check_ensemble(grid, label, settings)
        for named in _several(settings.get(STARTS_FROM)):
            _check_start(grid, label, settings, named)
    for task, method in grid.pairs:
        for needed in (*_needed(grid, task, method), *_compared(grid, task, method)):
            if (task, method) in reached(grid, *needed):
                raise ConfigError(
                    f"methods.{method} of the grid {grid.name!r} needs what {needed[1]!r} learns on {needed[0]!r},"
                    " which needs its own prompts; name another method or task."
                )
            if needed not in grid.pairs:
                raise ConfigError(
                    f"methods.{method} of the grid {grid.name!r} needs what {needed[1]!r} learns on {needed[0]!r},"
                    f" which its {ONLY_ON} leaves out; add the task there."
                )
            _check_axes(grid, task, method, needed)


def _said(grid: Grid, task: str, method: str) -> dict[str, Any]:
    """What decides which prompts are learned and chosen, as far as the grid says it."""
    settings = grid.settings(task, method)
    return {
        "words": without_paths(grid.tasks[task]),
        "settings": settings,
        "tune": [name for name in grid.tune if name in settings],
        "needs": [_said(grid, *needed) for needed in _needed(grid, task, method)],
    }


def _needed(grid: Grid, task: str, method: str) -> Iterator[tuple[str, str]]:
    """Tasks and methods whose prompts a method on a task needs."""
    settings = grid.settings(task, method)
    if settings["method"] == ENSEMBLE:
        yield task, settings["of"]
    for named in _several(settings.get(STARTS_FROM)):
        if named:
            yield named["task"], named["method"]


def _compared(grid: Grid, task: str, method: str) -> Iterator[tuple[str, str]]:
    """Tasks and methods whose prompts a measure compares with those that a method on a task starts from."""
    settings = grid.settings(task, method)
    for named in _several(settings.get(STARTS_FROM)):
        if alone := find_alone(grid, task, {STARTS_FROM: named}, 0):
            yield alone.task, alone.method


def _several(value: Any) -> list[Any]:
    """The values of a setting, of which there may be a list, or none."""
    return _each(value) if value else []


def _each(value: Any) -> list[Any]:
    """The values of a setting that has to be there."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _check_ensemble(grid: Grid, label: str, settings: Mapping[str, Any]) -> None:
    where = f"methods.{label} of the grid {grid.name!r}"
    for members in _each(settings.get("members")):
        if not isinstance(members, int) or isinstance(members, bool) or members < 1:
            raise ConfigError(f"{where}: members={members!r}; expected how many prompts answer together, at least 1.")
    for combine in _each(settings.get("combine", "vote")):
        if combine not in get_args(Combine):
            raise choose(f"way to combine prompts in {where}", str(combine), get_args(Combine))
    if "of" not in settings:
        raise ConfigError(f"{where} lacks of: LABEL, the method whose prompts answer together.")
    _check_learns(grid, where, "of", settings["of"])


def _check_start(grid: Grid, label: str, settings: Mapping[str, Any], named: Any) -> None:
    where = f"methods.{label} of the grid {grid.name!r}"
    if named is None:
        return
    if not isinstance(named, Mapping) or set(named) != _NAMED:
        raise ConfigError(f"{where}: {STARTS_FROM} is {named!r}; expected {{task: LABEL, method: LABEL}}.")
    if settings["method"] in (*_UNTRAINED, *WEIGHT_METHODS):
        raise ConfigError(f"{where}: {settings['method']} learns no prompt that could start from another; drop it.")
    for name in _STARTS:
        if name in settings:
            raise ConfigError(f"{where}: {STARTS_FROM} says how its prompts start; drop {name}.")
    if named["task"] not in grid.tasks:
        raise choose(f"task in {STARTS_FROM} of {where}", str(named["task"]), grid.tasks)
    if grid.tasks[named["task"]].get(OPTIONAL):
        raise ConfigError(
            f"{where}: {STARTS_FROM} names the task {named['task']!r}, which is left out where its files are not there;"
            f" drop its {OPTIONAL}."
        )
    _check_learns(grid, where, STARTS_FROM, named["method"])


def _check_learns(grid: Grid, where: str, setting: str, method: str) -> None:
    if method not in grid.methods:
        raise choose(f"method in {setting} of {where}", str(method), grid.methods)
    if (kind := grid.methods[method]["method"]) in (*_UNTRAINED, *WEIGHT_METHODS):
        raise ConfigError(f"{where}: {setting} names {method!r}, but {kind} learns no prompt; name a method that does.")


def _check_axes(grid: Grid, task: str, method: str, needed: tuple[str, str]) -> None:
    """Of several values that are not tuned, the one that is meant is that which both have."""
    for name in grid.axes(*needed):
        if name not in grid.settings(task, method):
            raise ConfigError(
                f"methods.{method} of the grid {grid.name!r} needs what {needed[1]!r} learns, of which there are"
                f" several by {name}; give it the {name} that is meant."
            )
