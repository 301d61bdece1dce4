"""What was run, on what, measured how, at what cost; what that does not show; and what makes it anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from softprompt.reporting.opening import Study
from softprompt.reporting.parts import Table
from softprompt.reporting.wording import labelled, plural, short_count, value_text
from softprompt.studies import Line

__all__ = ["describe_setting", "name_commands", "name_limits", "tell_state"]

_PRIVATE = ("data_dir", "train", "validation", "test")
_LIBRARIES = ("softprompt", "torch", "transformers")
_FEW_SEEDS = 5
_MOST_LISTED = 4


def describe_setting(study: Study) -> Table:
    """Backbones, data, methods, how they were scored, on what machine, with what versions, in what time."""
    grid, rows = study.grid, study.rows
    facts = {
        "backbones": _lines_of(_backbones(study.lines)),
        "tasks": _lines_of(f"{label}: {_settings(task, without=_PRIVATE)}" for label, task in grid.tasks.items()),
        "methods": _lines_of(f"{label}: {_settings(method)}" for label, method in grid.methods.items()),
        "every run": _settings(grid.run),
        "scored on": f"the {grid.split} split" + (f", at most {grid.rows} rows" if grid.rows else ""),
        "metrics": ", ".join(dict.fromkeys(line.metric for line in study.lines if line.metric)),
        "chosen on validation": _tuning(study),
        "seeds": ", ".join(map(str, grid.seeds)),
        "runs": f"{len(rows)}, finished {_span(rows, 'finished', 10)}",
        "machine": _span(rows, "machine"),
        "versions": ", ".join(f"{name} {_span(rows, f'version_{name}')}" for name in _LIBRARIES),
        "commit": _span(rows, "commit", 12),
        "time": _time(rows),
    }  # fmt: skip
    return Table(
        title="Setting",
        columns=("what", "how"),
        rows=tuple((name, text) for name, text in facts.items() if text),
    )


def tell_state(study: Study) -> tuple[str, ...]:
    """What is missing, failed, or refused; nothing of a study that is whole."""
    lines = study.lines
    told = []
    if missing := sum(line.missing for line in lines):
        where = ", ".join(dict.fromkeys(f"{line.task} on {line.backbone}" for line in lines if line.missing))
        told.append(
            f"This study is not finished: at least {plural(missing, 'run')} still to come ({where}). What is told of"
            " the rest may change."
        )
    told += _failures(lines)
    refusals: dict[str, list[str]] = {}
    for line in lines:
        if line.unsupported:
            refusals.setdefault(line.unsupported, []).append(_where(line))
    told += [f"Refused: {'; '.join(where)}. {reason}" for reason, where in refusals.items()]
    if study.foreign:
        where = ", ".join(dict.fromkeys(f"{row['task']} on {row['backbone']}" for row in study.foreign))
        told.append(
            f"{plural(len(study.foreign), 'row')} of the table belong to no cell of this grid ({where}): the last"
            " command asked for less, or for something else. They are left out; --grid takes the grid that they are of."
        )
    return tuple(told)


def _failures(lines: Sequence[Line]) -> Iterable[str]:
    """Runs that diverged, and those that could not be trained, by their reason."""
    diverged = {_where(line): line.failed - sum(line.lost.values()) for line in lines}
    lost: dict[str, dict[str, int]] = {}
    for line in lines:
        for reason, number in line.lost.items():
            lost.setdefault(reason, {})[_where(line)] = number
    if any(diverged.values()):
        yield f"{_runs(diverged)} diverged: {_each(diverged)}."
    for reason, where in lost.items():
        yield f"{_runs(where)} could not be made: {_each(where)}. {reason}"


def _runs(numbers: Mapping[str, int]) -> str:
    return plural(sum(numbers.values()), "run")


def _each(numbers: Mapping[str, int]) -> str:
    return "; ".join(f"{number} of {where}" for where, number in numbers.items() if number)


def name_limits(study: Study) -> tuple[str, ...]:
    """What the numbers do not show, as far as they tell themselves."""
    grid = study.grid
    limits = []
    if len(grid.seeds) < _FEW_SEEDS:
        limits.append(f"{plural(len(grid.seeds), 'seed')}: a standard deviation over so few is itself a rough guess.")
    if width := _half_width(study):
        limits.append(
            f"A score hangs on the rows that it was taken on too: the 95 % interval of a single run, under resampling"
            f" of them, reaches {width:.1f} points to either side (median over runs). Deviations over seeds leave that"
            " out, as all seeds are scored on the same rows."
        )
    if grid.tune_seeds is not None and len(grid.tune_seeds) < len(grid.seeds):
        limits.append(
            f"What was chosen on validation rows was chosen with {plural(len(grid.tune_seeds), 'seed')} of"
            f" {len(grid.seeds)}, from few values: another method may hang more on its settings than this one."
        )
    if largest := max((line.backbone_parameters or 0 for line in study.lines), default=0):
        limits.append(
            f"The largest backbone has {short_count(largest)} parameters; nothing here shows what larger ones do."
        )
    if any((line.session_runs or 0) > 1 for line in study.lines):
        limits.append("Runs that shared a session share its time and memory: these are no method's own.")
    if "dirty" in _span(study.rows, "commit"):
        limits.append("Some runs were made by files that differed from their commit.")
    return tuple(limits)


def name_commands(study: Study) -> tuple[str, ...]:
    """What makes the results and the report anew."""
    folder, grid = study.folder, study.grid
    needs_data = any("{data}" in str(task) for task in grid.tasks.values())
    asked = f"softprompt study --grid {study.grid_name}" + (" --data_dir DATA" if needs_data else "")
    commands = [f"git checkout {commit.removesuffix('-dirty')}" for commit in _values(study.rows, "commit")[-1:]]
    commands += ["pip install -c constraints.txt '.[report]'", f"{asked} --output_dir {folder}"]
    if others := [line.backbone for line in study.lines if line.backbone not in grid.backbones]:
        tasks = dict.fromkeys(line.task for line in study.lines if line.backbone in others)
        commands.append(
            f'{asked} --output_dir {folder} --backbones "[{", ".join(dict.fromkeys(others))}]"'
            f' --tasks "[{", ".join(tasks)}]"'
        )
    commands.append(f"softprompt report {folder} --grid {study.grid_name}")
    return tuple(commands)


def _backbones(lines: Iterable[Line]) -> Iterable[str]:
    sizes = {line.backbone: line.backbone_parameters for line in lines}
    sizes |= {line.backbone: line.backbone_parameters for line in lines if line.backbone_parameters}
    return (f"{name}: {short_count(size)} parameters" if size else name for name, size in sizes.items())


def _tuning(study: Study) -> str:
    tuned = [
        f"{label}: {name} of {', '.join(map(str, values))}"
        for label, method in study.grid.methods.items()
        for name in study.grid.tune
        if isinstance(values := method.get(name, study.grid.run.get(name)), list | tuple)
    ]
    if not tuned:
        return ""
    seeds = study.grid.tune_seeds
    return _lines_of([*tuned, f"with seed {', '.join(map(str, seeds))}" if seeds else "with all seeds"])


def _settings(settings: Mapping[str, Any], *, without: Sequence[str] = ()) -> str:
    kept = {name: value for name, value in settings.items() if name not in without}
    return ", ".join(f"{name} {_plain(value)}" for name, value in kept.items())


def _plain(value: Any) -> str:
    """A setting as a reader wants it: the end of a line is spelled, paths of tasks elsewhere are left out."""
    if isinstance(value, Mapping):
        return f"({_settings(value, without=_PRIVATE)})"
    if isinstance(value, list | tuple):
        return " | ".join(map(_plain, value))
    return value_text(value).replace("\n", "\\n")


def _span(rows: Iterable[Mapping[str, Any]], name: str, length: int | None = None) -> str:
    """The values that rows have, from the first that finished; of many, the first and the last."""
    values = list(dict.fromkeys(value[:length] for value in _values(rows, name)))
    if len(values) <= _MOST_LISTED:
        return ", ".join(values)
    return f"{values[0]} to {values[-1]} ({len(values)} in all)"


def _values(rows: Iterable[Mapping[str, Any]], name: str) -> list[str]:
    ordered = sorted(rows, key=lambda row: str(row.get("finished") or ""))
    return list(dict.fromkeys(str(row[name]) for row in ordered if row.get(name) is not None))


def _time(rows: Sequence[Mapping[str, Any]]) -> str:
    """Hours of all sessions: each run has its share of its session's."""
    timed = [row for row in rows if row.get("session_seconds") and row.get("session_runs")]
    if not timed:
        return ""
    hours = sum(row["session_seconds"] / row["session_runs"] for row in timed) / 3600
    unknown = sum(row.get("session_seconds") is None and row["status"] == "finished" for row in rows)
    each = len(timed) / sum(1 / row["session_runs"] for row in timed)
    told = f"{hours:.1f} hours of sessions, {each:.1f} runs in each, evaluations on the way included"
    return told + (f"; the time of {plural(unknown, 'run')} is not known" if unknown else "")


def _half_width(study: Study) -> float | None:
    """Half of the median interval of the reported scores, in points."""
    split, widths = study.grid.split, []
    for row in study.rows:
        low, high = (row.get(f"{split}_{row['metric']}_{end}") for end in ("low", "high"))
        if low is not None and high is not None:
            widths.append((high - low) / 2)
    return sorted(widths)[len(widths) // 2] if widths else None


def _where(line: Line) -> str:
    return f"{labelled(line)} on {line.backbone}, {line.task}"


def _lines_of(several: Iterable[str]) -> str:
    return "\n".join(several)
