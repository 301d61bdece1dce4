"""A grid at a size that proves its machinery in a minute, and answers nothing."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from softprompt.backbones.catalogue import bundled_names, card
from softprompt.errors import ConfigError
from softprompt.studies.cells import ENSEMBLE, ONLY_ON
from softprompt.studies.folder import StudyFolder
from softprompt.studies.grid import Grid
from softprompt.studies.pairing import check_claims
from softprompt.studies.task_settings import OWN_RUN

__all__ = ["STAND_IN", "answerable", "check_size", "is_quick", "quickened", "unmade"]

_MARK = " (quick)"
_BUNDLED = "bundled:"
_MADE = "models/"
STAND_IN = "bundled:t5-tiny"
"""What a quick grid takes for backbones that are still to be made."""
_VALUES, _SEEDS, _MEMBERS = 2, 2, 2
_ROWS, _TRAIN_ROWS, _VALIDATION_ROWS = 4, 16, 8
_RUN = {
    "steps": 2,
    "warmup_steps": 0,
    "batch_size": 2,
    "evaluate_every": None,
    "evaluate_rows": _ROWS,
    "max_new_tokens": 4,
    "patience": None,
}


def quickened(grid: Grid) -> Grid:
    """The same grid on the smallest bundled backbones of its kinds, with few values, seeds, rows and steps.

    It is another study, with rows of its own. Tasks whose `train_rows` nothing sets are trained on a few rows, so they
    need more than that many. Claims of which nothing is left to compare are dropped. For backbones that are still to be
    made (`unmade`), a bundled one stands in.
    """
    absent = unmade(grid)
    methods = {label: _few(_without(settings)) for label, settings in grid.methods.items()}
    run = _few(_without(grid.run))
    draws = any("train_rows" in settings for settings in (run, *methods.values()))
    quick = dataclasses.replace(
        grid,
        name=grid.name + _MARK,
        backbones=tuple(dict.fromkeys(STAND_IN if name in absent else _smallest(name) for name in grid.backbones)),
        tasks={label: _small_task(settings, draws) for label, settings in grid.tasks.items()},
        methods={label: _small_ensemble(settings) for label, settings in methods.items()},
        seeds=grid.seeds[:_SEEDS],
        tune_seeds=None if grid.tune_seeds is None else grid.seeds[:1],
        run={**run, **_RUN},
        rows=min(grid.rows or _ROWS, _ROWS),
    )
    return answerable(quick)


def answerable(grid: Grid) -> Grid:
    """The same grid without the claims of which nothing is left to compare, because it was narrowed."""
    return dataclasses.replace(grid, claims=[claim for claim in grid.claims if _compares(grid, claim)])


def is_quick(grid: Grid) -> bool:
    """Whether a grid was made by `quickened`."""
    return grid.name.endswith(_MARK)


def check_size(grid: Grid, folder: StudyFolder) -> None:
    """Refuse to run a quick grid where one at its whole size was run, and the reverse.

    Raises:
        ConfigError: If the folder is of the other.
    """
    last = folder.last_name()
    if last is not None and last.endswith(_MARK) != is_quick(grid):
        raise ConfigError(
            f"{folder.path} holds runs of {last!r}, and {grid.name!r} is a study of its own; give it another"
            " output_dir."
        )


def unmade(grid: Grid) -> tuple[str, ...]:
    """The backbones of a grid that `softprompt backbones make` would make, and did not; a bundled one stands in."""
    return tuple(name for name in grid.backbones if name.startswith(_MADE) and not Path(name).is_dir())


def _smallest(name: str) -> str:
    """The smallest bundled backbone of the kind of a bundled one; any other as it is."""
    if not name.startswith(_BUNDLED):
        return name
    kind = card(name)["kind"]
    same = [one for one in bundled_names() if card(one)["kind"] == kind]
    return _BUNDLED + min(same, key=lambda one: int(card(one)["parameters"]))


def _without(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that are the same for all runs of a quick grid."""
    return {name: value for name, value in settings.items() if name not in _RUN}


def _few(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the first values of each axis."""
    return {
        name: value[:_VALUES] if isinstance(value, list) and name != ONLY_ON else value
        for name, value in settings.items()
    }


def _small_task(settings: Mapping[str, Any], draws: bool) -> dict[str, Any]:
    small = dict(settings)
    if OWN_RUN in small:
        small[OWN_RUN] = _few(_without(small[OWN_RUN] or {}))
    if "validation_rows" in small:
        small["validation_rows"] = min(small["validation_rows"], _VALIDATION_ROWS)
    if not draws and "train_rows" not in (small.get(OWN_RUN) or {}):
        small["train_rows"] = min(small.get("train_rows", _TRAIN_ROWS), _TRAIN_ROWS)
    return small


def _small_ensemble(settings: Mapping[str, Any]) -> dict[str, Any]:
    if settings["method"] != ENSEMBLE:
        return dict(settings)
    members = settings["members"]
    few = [one for one in members if one <= _MEMBERS] if isinstance(members, list | tuple) else min(members, _MEMBERS)
    return {**settings, "members": few or _MEMBERS}


def _compares(grid: Grid, claim: Mapping[str, Any]) -> bool:
    alone: Sequence[Mapping[str, Any]] = (claim,)
    with contextlib.suppress(ConfigError):
        check_claims(dataclasses.replace(grid, claims=alone))
        return True
    return False
