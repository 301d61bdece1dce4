"""From an opened study to the parts of its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from softprompt.reporting.cases import kept_cases, read_cases
from softprompt.reporting.judgements import verdict_table
from softprompt.reporting.opening import Study
from softprompt.reporting.parts import Report
from softprompt.reporting.plots import plan_figures
from softprompt.reporting.references import references_of
from softprompt.reporting.setting import describe_setting, name_commands, name_limits, tell_state
from softprompt.reporting.tables import result_tables
from softprompt.reporting.wording import labelled, mean_and_deviation
from softprompt.studies import Grid, Line
from softprompt.studies.cells import TEXT_PROMPT
from softprompt.training import WEIGHT_METHODS

__all__ = ["make_report"]

_NO_CASES = (
    "This study kept no outputs of the runs that are told of. `softprompt evaluate --backbone BACKBONE --prompt PROMPT"
    " --task TASK --split test --output outputs.jsonl` makes them for a prompt that was kept (`softprompt train`), and"
    " `softprompt report {folder} --predictions outputs.jsonl` shows some here."
)


def make_report(study: Study, *, predictions: Sequence[str | Path] = ()) -> Report:
    """Everything that a report says, as plain values.

    Args:
        study: Of `open_study`.
        predictions: Files of `softprompt evaluate --output`, from which rows are shown instead of those that the study
            kept.

    Raises:
        DataError: If a file of predictions cannot be read.
    """
    cases, note = read_cases(predictions) if predictions else kept_cases(study)
    return Report(
        title=f"Study {study.grid.name}",
        state=tell_state(study),
        question=study.grid.question or "The grid of this study does not say what it asks (question).",
        summary=_summary(study),
        setting=describe_setting(study),
        tables=result_tables(study.lines),
        figures=tuple(plan_figures(study.grid, study.lines, study.rows)),
        cases=cases,
        cases_note=note or _NO_CASES.format(folder=study.folder),
        verdicts=verdict_table(study.verdicts),
        limits=name_limits(study),
        commands=name_commands(study),
        references=references_of(study.grid),
    )


def _summary(study: Study) -> tuple[str, ...]:
    """For each task the highest means, and how many claims came to what."""
    told = []
    for task in study.grid.tasks:
        own = [line for line in study.lines if line.task == task and line.scores]
        if own:
            told.append(_best_of(study.grid, task, own))
    outcomes: dict[str, list[str]] = {}
    for verdict in study.verdicts:
        outcomes.setdefault(verdict.outcome, []).append(verdict.claim.says.rstrip("."))
    told += [f"{outcome.capitalize()}: {'; '.join(claims)}." for outcome, claims in outcomes.items()]
    return tuple(told)


def _best_of(grid: Grid, task: str, lines: Sequence[Line]) -> str:
    """The highest mean of all, the highest of prompts, and what tuning weights has on that prompt's backbone."""
    best = max(lines, key=_mean)
    told = [f"{task} ({best.metric}): the highest mean is {_told(best)}"]
    prompts = [line for line in lines if _kind(grid, line) == "prompt"]
    tuned = [line for line in lines if _kind(grid, line) == "weights"]
    if prompts:
        prompt = max(prompts, key=_mean)
        if prompt != best:
            told.append(f"the highest of prompts {_told(prompt)}")
        beside = [line for line in tuned if line.backbone == prompt.backbone and line != best]
        if beside:
            told.append(f"on the same backbone {_told(max(beside, key=_mean))}")
    known = [line.majority for line in lines if line.majority is not None]
    if known:
        told.append(f"the most frequent answer has {max(known):.1f}")
    return "; ".join(told) + "."


def _kind(grid: Grid, line: Line) -> str:
    method = grid.settings(line.task, line.method)["method"]
    return "weights" if method in WEIGHT_METHODS else "words" if method == TEXT_PROMPT else "prompt"


def _mean(line: Line) -> float:
    return line.mean or 0.0


def _told(line: Line) -> str:
    return f"{mean_and_deviation(line.scores)}, {labelled(line)} on {line.backbone}"
