"""Rows with what was said of them: those that a study kept, or that `softprompt evaluate --output` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from softprompt.errors import DataError
from softprompt.linefile import LineFile
from softprompt.reporting.opening import Study
from softprompt.reporting.parts import Case
from softprompt.reporting.wording import labelled, plural
from softprompt.studies import Line, StudyFolder
from softprompt.studies.cases import CASES, CaseFile, is_right, trimmed, wrong_and_right

__all__ = ["kept_cases", "read_cases"]

_WRONG, _RIGHT = 4, 2
_NAMES = ("task", "split", "input", "targets", "prediction")


def read_cases(paths: Sequence[str | Path]) -> tuple[tuple[Case, ...], str]:
    """A few wrong and a few right predictions of each task, and how many there are.

    A prediction is right if it is one of the targets, but for blanks around it. Of ranked labels, the wrong ones are
    those that were held most probable; of texts, those at even distances in the file.

    Args:
        paths: Files of predictions.

    Raises:
        DataError: If a file is not there, holds no predictions, or a line is none.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for path in paths:
        if not Path(path).is_file():
            raise DataError(f"There is no file {path}; make it with `softprompt evaluate --output {path}`.")
        before = sum(map(len, groups.values()))
        for number, row in LineFile(path, *_NAMES):
            if row is None:
                raise DataError(
                    f"{path}, line {number}: no prediction; give what `softprompt evaluate --output` wrote."
                )
            groups.setdefault(f"{row['task']}, {row['split']} ({Path(path).stem})", []).append(row)
        if sum(map(len, groups.values())) == before:
            raise DataError(f"{path} holds no predictions; finish the evaluation first.")
    cases: list[Case] = []
    told = []
    for name, rows in groups.items():
        told.append(_counted(name, sum(map(is_right, rows)), len(rows)))
        cases += [_case(name, row) for row in wrong_and_right(rows, wrong=_WRONG, right=_RIGHT)]
    return tuple(cases), " ".join(told)


def kept_cases(study: Study) -> tuple[tuple[Case, ...], str]:
    """What a study kept of answers: for each backbone and task, of the first run of the line with the highest mean.

    Args:
        study: Of `open_study`.
    """
    kept = CaseFile(StudyFolder(study.folder).cases).by_key()
    best: dict[tuple[str, str], Line] = {}
    for line in sorted(study.lines, key=lambda line: line.mean or 0.0):
        if line.keys and line.keys[0] in kept:
            best[line.task, line.backbone] = line
    cases: list[Case] = []
    told = []
    for task, backbone in sorted(best):
        line = best[task, backbone]
        own = kept[line.keys[0]]
        name = f"{task}, {own['split']} ({labelled(line)} on {backbone}, seed {line.seeds[0]})"
        told.append(_counted(name, own["right"], own["answers"]))
        cases += [_case(name, row) for row in own[CASES]]
    return tuple(cases), " ".join(told)


def _counted(name: str, right: int, several: int) -> str:
    return f"{name}: {right} of {plural(several, 'output')} are one of the targets."


def _case(name: str, row: Mapping[str, Any]) -> Case:
    probabilities = row.get("probabilities")
    return Case(
        task=name,
        right=is_right(row),
        input=trimmed(row["input"]),
        targets=trimmed(" | ".join(row["targets"])),
        prediction=trimmed(row["prediction"]),
        certainty=max(probabilities.values(), default=0.0) if probabilities else None,
    )
