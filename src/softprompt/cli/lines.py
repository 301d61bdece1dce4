"""The lines of a study's summary, as a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from softprompt.cli.tables import print_table
from softprompt.studies import Line

__all__ = ["print_lines"]

_MEBIBYTE = 2**20


def print_lines(lines: Sequence[Line], tuned: Sequence[str], *, costs: bool) -> None:
    """Print a line per backbone, task and method; below, why some methods or seeds are none for a backbone.

    Args:
        lines: Of `summarise`.
        tuned: Names of the settings that were tuned.
        costs: Whether to print what each method trained, stored and took.
    """
    axes = list(dict.fromkeys(name for line in lines for name in line.axes))
    elsewhere = list(dict.fromkeys(label for line in lines for label in line.elsewhere))
    spent = ("trained", "stored KiB", "ms/step", "session MiB", "peak MiB", "runs at once") if costs else ()
    print_table(
        (
            "backbone", "parameters", "task", "method", *axes, *tuned, "learned", *spent, "metric", "mean", "sd",
            *(f"on {label}" for label in elsewhere), "seeds", "most frequent", "failed", "missing",
        ),
        [
            (
                line.backbone, line.backbone_parameters, line.task, line.method,
                *(str(line.axes.get(name, "")) for name in axes), *(str(line.chosen.get(name, "")) for name in tuned),
                line.parameters, *(_costs(line) if costs else ()), line.metric, line.mean, line.deviation,
                *(_mean_and_deviation(line.elsewhere.get(label, ())) for label in elsewhere),
                len(line.scores), line.majority, line.failed, line.missing,
            )
            for line in lines
            if line.scores or not line.unsupported
        ],
    )  # fmt: skip
    for line in lines:
        if line.unsupported:
            which = " ".join([line.method, *(f"{name}={value}" for name, value in line.axes.items())])
            print(f"{line.backbone}, {line.task}, {which}: {line.unsupported}")


def _mean_and_deviation(scores: Sequence[float]) -> str:
    if len(scores) < 2:
        return "".join(f"{score:.2f}" for score in scores)
    return f"{statistics.fmean(scores):.2f} ± {statistics.stdev(scores):.2f}"


def _costs(line: Line) -> tuple[int | float | None, ...]:
    return (
        line.trained,
        line.stored_bytes and round(line.stored_bytes / 1024),
        line.step_seconds and 1000 * line.step_seconds,
        line.session_memory_bytes and round(line.session_memory_bytes / _MEBIBYTE),
        line.peak_memory_bytes and round(line.peak_memory_bytes / _MEBIBYTE),
        line.session_runs,
    )
