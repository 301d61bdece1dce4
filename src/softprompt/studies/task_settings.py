"""What a grid says of a task besides the task's own settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["OPTIONAL", "OWN_RUN", "PATHS", "TESTED_ON", "without_paths"]

PATHS = ("data_dir", "train", "validation", "test")
"""The settings that say where files are."""
TESTED_ON = "tested_on"
"""The setting of a task that names further ones."""
OPTIONAL = "optional"
"""The setting of a task by which it is left out where its files are not there."""
OWN_RUN = "run"
"""The setting of a task that holds settings of its runs."""


def without_paths(task: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a task but for where its files are and for its runs, and those of the tasks that it is tested on."""
    plain = {key: value for key, value in task.items() if key not in (*PATHS, OPTIONAL, OWN_RUN)}
    if isinstance(others := plain.get(TESTED_ON), Mapping):
        plain[TESTED_ON] = {
            label: without_paths(settings or {})
            for label, settings in others.items()
            if not (settings or {}).get(OPTIONAL)  # what is at hand is in the task's digest
        }
    return plain
