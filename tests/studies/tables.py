"""Running a small grid, and what of its table must be the same however it was run."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from softprompt.studies import run_grid

PASSING = {
    *("session_seconds", "seconds_per_step", "step_seconds", "peak_memory_bytes", "session_memory_bytes"),
    *("finished", "commit", "evaluation_seconds"),
}
"""What a machine and a moment decide."""


def ran(grid, folder, say=lambda line: None, **options) -> Any:
    return run_grid(grid, folder, device="cpu", say=say, **options)


def lasting(table, besides: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    passing = PASSING | set(besides)
    return {row["key"]: {name: value for name, value in row.items() if name not in passing} for row in table}
