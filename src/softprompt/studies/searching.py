"""Settings for a backbone and a task by a small search in one session."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from softprompt.backbones import Backbone
from softprompt.errors import ConfigError, UnsupportedError
from softprompt.studies.grid import Cell, Grid
from softprompt.studies.recommending import Advice, Recommendation, alternative, recommend
from softprompt.tasks import Task
from softprompt.training import TrainConfig, WeightMethod, train

__all__ = ["search_settings"]


def search_settings(
    backbone: Backbone,
    task: Task,
    *,
    steps: int,
    seed: int = 0,
    fixed: Mapping[str, Any] | None = None,
    config: TrainConfig | None = None,
) -> Recommendation:
    """Settings by a search around the rules': methods and rates trained together, the worse half stopped repeatedly.

    All candidates share one session. So many halvings as leave one of them lie at `steps / 2`, `steps / 4` and so on.

    Args:
        backbone: The frozen model.
        task: The task; its validation split chooses.
        steps: Of the candidate that is trained to its end.
        seed: Of all candidates.
        fixed: Settings of runs and methods that every candidate has, instead of the rules'.
        config: Of the session; its `halve_at` is set here.

    Returns:
        The winner's settings, with the score that chose them.

    Raises:
        ConfigError: If the budget is too small for the halvings, the task has no validation split, or what is fixed is
            none for any of the candidates.
        NonFiniteError: If every candidate diverged.
        UnsupportedError: If the model is an encoder and the task asks for free text, or it can have none of the
            candidates with what is fixed.
    """
    held = dict(fixed or {})
    first = recommend(backbone, task, steps=steps, length=held.get("length"))
    candidates = _candidates(backbone, task, first, steps=steps, seed=seed, fixed=held)
    cells = {f"candidate{number}": cell for number, cell in enumerate(candidates)}
    halvings = math.ceil(math.log2(len(cells)))
    if steps < 2**halvings:
        raise ConfigError(f"steps={steps}: a search among {len(cells)} candidates needs at least {2**halvings}.")
    runs = [cell.run(name, task) for name, cell in cells.items()]
    halve_at = tuple(steps // 2**power for power in range(halvings, 0, -1))
    results = train(backbone, runs, replace(config or TrainConfig(), halve_at=halve_at))
    watched = runs[0].watches
    scores = {
        name: (result.status == "finished", result.metrics[watched])
        for name, result in results.items()
        if watched in result.metrics
    }
    best = max(scores, key=scores.__getitem__)
    reason = f"{watched} {scores[best][1]:.1f} on validation, best of {len(cells)} candidates"
    found = cells[best].settings
    known = {one.setting: one for one in first.advice if found["method"] == first.settings["method"]}
    return Recommendation(
        advice=tuple(
            known[name]
            if name in known and known[name].value == value and name not in ("method", "learning_rate")
            else Advice(setting=name, value=value, reason=reason, source=f"this search, seed {seed}")
            for name, value in found.items()
            if name not in held
        ),
        beside=first.beside,
    )


def _candidates(
    backbone: Backbone, task: Task, first: Recommendation, *, steps: int, seed: int, fixed: Mapping[str, Any]
) -> list[Cell]:
    """The rules' method and the nearest other one, each at three rates; a list that is fixed is one value."""
    held = {name: [value] if isinstance(value, list | tuple) else value for name, value in fixed.items()}
    shared = {"batch_size": first.settings["batch_size"], "steps": steps, "evaluate_every": max(1, steps // 10)}
    methods: dict[str, dict[str, Any]] = {}
    for settings in (first.settings, alternative(backbone, task, steps=steps, length=fixed.get("length"))):
        if settings is not None:
            rate = settings["learning_rate"]
            rates = {"learning_rate": [rate / 3, rate, 3 * rate]}
            methods[settings["method"]] = {**settings, **shared, **rates, **held}
    rows = methods.get("prompt_tuning", {"placement": "template"})
    if backbone.spec.kind == "decoder-only" and "placement" not in fixed and rows.get("placement") != "template":
        rows["placement"] = ["prepend", "append"]
    grid = Grid(name="search", backbones=[backbone.name], tasks={task.name: {}}, methods=methods, seeds=[seed])
    return _buildable(grid.cells(), backbone, task)


def _buildable(cells: Sequence[Cell], backbone: Backbone, task: Task) -> list[Cell]:
    """Those candidates that the backbone can have: what is fixed may be none for one of the methods.

    Raises:
        ConfigError, UnsupportedError: If it can have none of them.
    """
    kept = []
    refusal: ConfigError | UnsupportedError | None = None
    for cell in cells:
        try:
            method = cell.run("candidate", task).method
            if not isinstance(method, WeightMethod):
                method.build(backbone, task, cell.seed)
            kept.append(cell)
        except (ConfigError, UnsupportedError) as error:
            refusal = error
    if refusal is not None and not kept:
        raise refusal
    return kept
