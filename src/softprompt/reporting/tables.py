"""The tables of a report: scores by method and backbone, and what they took."""

from __future__ import annotations

from collections.abc import Sequence

from softprompt.reporting.parts import Table
from softprompt.reporting.wording import labelled, mean_and_deviation, short_count, value_text
from softprompt.studies import Line

__all__ = ["result_tables"]

_MOST_OF_SCORES = 3
"""So many tasks have a table each; more of them share one."""
_MEBIBYTE = 2**20
_HOW = "Mean ± standard deviation over seeds, in brackets how many"


def result_tables(lines: Sequence[Line]) -> tuple[Table, ...]:
    """At most five: scores, what prompts look like, and what they took.

    Args:
        lines: Of `summarise`.
    """
    tasks = list(dict.fromkeys(line.task for line in lines))
    if len(tasks) <= _MOST_OF_SCORES:
        scores = [_scores_of(task, [line for line in lines if line.task == task]) for task in tasks]
    else:
        scores = [_scores(lines)]
    looks = [line for line in lines if line.measured]
    return (*scores, *([_looks(looks)] if looks else []), _costs([line for line in lines if line.scores]))


def _scores_of(task: str, lines: Sequence[Line]) -> Table:
    """Methods against backbones; whichever are fewer are the columns."""
    methods = list(dict.fromkeys(labelled(line) for line in lines))
    backbones = list(dict.fromkeys(line.backbone for line in lines if line.scores or line.failed or line.unsupported))
    cells = {(labelled(line), line.backbone): _cell(line) for line in lines}
    sizes = {line.backbone: _size(line) for line in lines if line.backbone_parameters}
    metric = next((line.metric for line in lines if line.metric), "")
    if len(methods) < len(backbones):
        columns = ("backbone", "parameters", *methods)
        rows = [
            (name, sizes.get(name, ""), *(cells.get((method, name), "") for method in methods)) for name in backbones
        ]
    else:
        columns = ("method", *(f"{name} ({sizes[name]})" if name in sizes else name for name in backbones))
        rows = [(method, *(cells.get((method, name), "") for name in backbones)) for method in methods]
    return Table(
        title=f"{task}, {metric}" if metric else task,
        columns=columns,
        rows=tuple(rows),
        note=f"{_HOW}.{_majorities(lines)}",
    )


def _scores(lines: Sequence[Line]) -> Table:
    columns = ("task", "backbone", "method", "metric", "score", "most frequent answer")
    rows = [
        (line.task, line.backbone, labelled(line), line.metric, _cell(line), _one(line.majority))
        for line in lines
        if line.metric
    ]
    return Table(title="Scores", columns=columns, rows=tuple(rows), note=f"{_HOW}.")


def _looks(lines: Sequence[Line]) -> Table:
    names = sorted({name for line in lines for name in line.measured})
    rows = [
        (
            *(labelled(line), line.backbone, line.task),
            *(mean_and_deviation(list(line.measured.get(name, {}).values())) for name in names),
        )
        for line in lines
    ]
    return Table(
        title="What prompts look like",
        columns=("method", "backbone", "task", *(name.replace("_", " ") for name in names)),
        rows=tuple(rows),
        note=f"{_HOW}. Shares are in percent, of what is stored per thousand.",
    )


def _costs(lines: Sequence[Line]) -> Table:
    tuned = list(dict.fromkeys(name for line in lines for name in line.chosen))
    alone = any(line.step_seconds is not None for line in lines)
    columns = (
        *("method", "backbone", "task", *tuned, "trained", "of backbone"),
        *("stored", "ms a step", "peak MiB", "runs at once"),
        *(("ms without evaluation", "MiB besides") if alone else ()),
    )
    rows = [
        (
            *(labelled(line), line.backbone, line.task),
            *(value_text(line.chosen.get(name, "")) for name in tuned),
            "" if line.trained is None else short_count(line.trained),
            _share(line),
            _bytes(line.stored_bytes),
            _milliseconds(line.seconds_per_step),
            _mebibytes(line.peak_memory_bytes),
            value_text(line.session_runs or ""),
            *((_milliseconds(line.step_seconds), _mebibytes(line.session_memory_bytes)) if alone else ()),
        )
        for line in lines
    ]
    return Table(
        title="Chosen settings and costs",
        columns=columns,
        rows=tuple(rows),
        note="Settings were chosen on validation rows. Time and memory are of a session, which runs at once share; a"
        " step's time includes evaluations, memory the backbone and everything else in the process"
        + ("; what is besides does not include what was there before the session." if alone else "."),
    )


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:,.0f}"


def _mebibytes(count: int | None) -> str:
    return "" if count is None else f"{count / _MEBIBYTE:,.0f}"


def _cell(line: Line) -> str:
    """A score, or why there is none."""
    if line.scores:
        return mean_and_deviation(line.scores)
    return "refused" if line.unsupported else "failed" if line.failed else "not run" if line.missing else ""


def _majorities(lines: Sequence[Line]) -> str:
    known = sorted({round(line.majority, 1) for line in lines if line.majority is not None})
    if not known:
        return ""
    ends = dict.fromkeys((known[0], known[-1]))
    return f" The most frequent answer has {' to '.join(f'{score:.1f}' for score in ends)}."


def _one(score: float | None) -> str:
    return "" if score is None else f"{score:.1f}"


def _size(line: Line) -> str:
    return short_count(line.backbone_parameters or 0)


def _share(line: Line) -> str:
    if line.trained is None or not line.backbone_parameters:
        return ""
    return f"{100 * line.trained / line.backbone_parameters:.3g} %"


def _bytes(size_bytes: int | None) -> str:
    if size_bytes is None:
        return ""
    return f"{size_bytes / _MEBIBYTE:,.1f} MiB" if size_bytes >= _MEBIBYTE else f"{size_bytes / 1024:,.1f} KiB"
