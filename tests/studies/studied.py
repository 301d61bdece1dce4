"""Grids with claims, and rows of them that nobody ran."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from softprompt.studies import Cell, Grid

BETTER = {"method": "rows", "init": "labels"}
WORSE = {"method": "rows", "init": "words"}
SIZES = {"bundled:t5-tiny": 500_000, "bundled:t5-mini": 5_000_000, "bundled:gpt-mini": 2_000_000}


def claim(**changes: Any) -> dict[str, Any]:
    """That prompts had better begin as labels than as words."""
    return {"says": "labels are a good start", "better": BETTER, "worse": WORSE, **changes}


def claiming(*claims: Mapping[str, Any], **changes: Any) -> Grid:
    """A grid of rows, keys and weights on two backbones and two tasks, with claims."""
    settings: dict[str, Any] = {
        "name": "starts",
        "backbones": ["bundled:t5-tiny", "bundled:t5-mini"],
        "tasks": {"films": {"task": "sst2", "tested_on": {"books": {}, "shoes": {}}}, "topics": {"task": "subj"}},
        "methods": {
            "rows": {
                "method": "prompt_tuning",
                "init": ["labels", "words"],
                "length": [1, 10],
                "learning_rate": [0.1, 0.3],
            },
            "weights": {"method": "model_tuning", "learning_rate": [0.001, 0.003]},
        },
        "seeds": [0, 1, 2],
        "claims": claims,
    }
    return Grid(**{**settings, **changes})


def scored(grid: Grid, score: Callable[[Cell], float | None], **elsewhere: Callable[[Cell], float]) -> list[dict]:
    """A row for each cell of a grid that has a score, on rows that leave no doubt of it.

    Args:
        grid: Whose cells.
        score: On the task; None leaves the row out.
        elsewhere: By the label of a further task, the score there.
    """
    rows = []
    for cell in grid.cells():
        if (found := score(cell)) is None:
            continue
        further = elsewhere if cell.task == "films" else {}
        rows.append(
            {
                "key": cell.identity,
                "cell": cell.identity,
                "backbone": cell.backbone,
                "backbone_parameters": SIZES.get(cell.backbone, 1),
                "task": cell.task,
                "seed": cell.seed,
                "backbone_digest": "a",
                "task_digest": "a",
                "metric": "accuracy",
                "status": "finished",
                "reason": "",
                "parameters": 1,
                "validation_accuracy": -cell.settings["learning_rate"],  # so the first rate is chosen
                **with_interval("test_accuracy", found),
                "test_majority": 50.0,
                **{
                    name: value
                    for label, other in further.items()
                    for name, value in with_interval(f"on {label}_accuracy", other(cell)).items()
                },
                "outcomes": {
                    name: {"rows": name, "values": [value, value]}
                    for name, value in {
                        "test": found,
                        **{f"on {k}": other(cell) for k, other in further.items()},
                    }.items()
                },
            }
        )
    return rows


def with_interval(name: str, score: float, reach: float = 0.0) -> dict[str, float]:
    """A score's columns, with an interval so far to each side."""
    return {name: score, f"{name}_low": score - reach, f"{name}_high": score + reach}
