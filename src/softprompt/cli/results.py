"""The closing table of a training."""

from __future__ import annotations

from collections.abc import Mapping

from softprompt.cli.tables import print_table
from softprompt.studies.traces import stored_bytes
from softprompt.training import RunResult

__all__ = ["print_results"]


def print_results(result: Mapping[str, RunResult], milliseconds_per_step: float | None) -> None:
    """Print what each run reached and cost; time per step is of the session, evaluations included."""
    stored = {name: stored_bytes(run.path) for name, run in result.items()}
    names = sorted({metric for run in result.values() for metric in run.metrics})
    print_table(
        ("run", "status", "best step", *names, "learned", "trained", "stored bytes", "ms/step", "prompt"),
        [
            (
                name, run.status, run.best_step, *(run.metrics.get(metric) for metric in names), run.parameters,
                run.trained, stored[name], milliseconds_per_step, run.path,
            )
            for name, run in result.items()
        ],
    )  # fmt: skip
