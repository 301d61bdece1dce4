"""A made-up study: its grid, and the rows that running it would have left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from softprompt.config import to_mapping
from softprompt.studies import Cell, Grid

SIZES = {
    "bundled:t5-tiny": 580_096,
    "bundled:t5-mini": 2_348_832,
    "models/t5-tiny-span": 580_096,
    "models/t5-mini-span": 2_348_832,
    "bundled:gpt-mini": 2_053_504,
}
TRAINED = {"prompt_tuning": 1_920, "prefix_tuning": 17_280, "model_tuning": 2_348_832}


def grid(**changes: Any) -> Grid:
    """Two methods at two sizes, three seeds."""
    settings: dict[str, Any] = {
        "name": "made up",
        "backbones": ["bundled:t5-tiny", "bundled:t5-mini"],
        "tasks": {"films": {"task": "sst2", "data_dir": "{data}/sst2", "input": "{sentence}\n\nThis is"}},
        "methods": {
            "prompt tuning": {"method": "prompt_tuning", "length": 20, "learning_rate": [0.1, 0.3]},
            "model tuning": {"method": "model_tuning", "learning_rate": 0.001},
        },
        "seeds": [0, 1, 2],
        "run": {"optimizer": "adamw", "steps": 4},
        "question": "How far is one from the other?",
    }
    return Grid(**{**settings, **changes})


def score(cell: Cell) -> float:
    """60 with deviations by seed; five more with all weights, and two more for the higher rate and the larger size."""
    high = cell.settings.get("learning_rate") == 0.3
    return 60.0 + cell.seed + 5 * cell.tunes_weights + 2 * high + 2 * ("mini" in cell.backbone)


def far_apart(cell: Cell) -> float:
    """Scores whose difference is larger than what the rows and seeds leave open."""
    return score(cell) + (15 + cell.seed - 1 if cell.tunes_weights else 0)


def rows(asked: Grid, scored: Callable[[Cell], float] = score) -> list[dict[str, Any]]:
    """A finished row for each cell of a grid."""
    return [row(asked, cell, scored(cell), number) for number, cell in enumerate(asked.cells())]


def row(asked: Grid, cell: Cell, points: float, number: int = 0) -> dict[str, Any]:
    """The row of a cell that finished with a score."""
    elsewhere = asked.tasks[cell.task].get("tested_on") or {}
    method = cell.settings["method"]
    return {
        "key": f"key{number}",
        "cell": cell.identity,
        "backbone_digest": "b",
        "task_digest": "t",
        "study": asked.name,
        "backbone": cell.backbone,
        "backbone_parameters": SIZES[cell.backbone],
        "task": cell.task,
        "label": cell.method,
        **to_mapping(dict(cell.settings)),
        "seed": cell.seed,
        "metric": "accuracy",
        "status": "finished",
        "reason": "",
        "parameters": TRAINED.get(method, 0),
        "trained": TRAINED.get(method, 0),
        "stored_bytes": 4096,
        "validation_accuracy": points,
        "test_accuracy": points,
        "test_accuracy_low": points - 4,
        "test_accuracy_high": points + 4,
        "test_majority": 52.4,
        "test_rows": 500,
        **{f"on {label}_accuracy": points - 10 for label in elsewhere},
        "session_runs": 2,
        "session_seconds": 720.0,
        "seconds_per_step": 0.1,
        "peak_memory_bytes": 2**30,
        "version_softprompt": "0.1.0",
        "version_torch": "2",
        "version_transformers": "5",
        "commit": "abc123",
        "machine": "a machine",
        "finished": f"2026-11-{20 + number % 3}T00:00:00+00:00",
    }


def write_study(folder: Path, asked: Grid, lines: list[dict[str, Any]], *, with_grid: bool = True) -> Path:
    """A study's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    if with_grid:
        (folder / "study.yaml").write_text(yaml.safe_dump(to_mapping(asked), sort_keys=False), encoding="utf-8")
    return folder
