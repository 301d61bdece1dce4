"""Rows with what was said of them, from the files that `softprompt evaluate --output` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from softprompt.errors import DataError
from softprompt.linefile import LineFile
from softprompt.reporting.parts import Case
from softprompt.reporting.wording import plural

__all__ = ["read_cases"]

_WRONG, _RIGHT = 4, 2
_LONGEST = 400
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
        right = [row for row in rows if _is_right(row)]
        wrong = [row for row in rows if not _is_right(row)]
        told.append(f"{name}: {len(right)} of {plural(len(rows), 'output')} are one of the targets.")
        cases += [_case(name, row, right=False) for row in _chosen(wrong, _WRONG)]
        cases += [_case(name, row, right=True) for row in _chosen(right, _RIGHT)]
    return tuple(cases), " ".join(told)


def _is_right(row: Mapping[str, Any]) -> bool:
    said = row["prediction"] if row.get("label") is None else row["label"]
    return said.strip() in {target.strip() for target in row["targets"]}


def _chosen(rows: Sequence[Mapping[str, Any]], most: int) -> Sequence[Mapping[str, Any]]:
    if len(rows) <= most:
        return rows
    if all(row.get("probabilities") for row in rows):
        return sorted(rows, key=lambda row: -_certainty(row))[:most]
    return [rows[place * len(rows) // most] for place in range(most)]


def _certainty(row: Mapping[str, Any]) -> float:
    return max((row.get("probabilities") or {}).values(), default=0.0)


def _case(name: str, row: Mapping[str, Any], *, right: bool) -> Case:
    return Case(
        task=name,
        right=right,
        input=_trimmed(row["input"]),
        targets=_trimmed(" | ".join(row["targets"])),
        prediction=_trimmed(row["prediction"]),
        certainty=_certainty(row) if row.get("probabilities") else None,
    )


def _trimmed(text: str) -> str:
    """A text's beginning and end, if it is long."""
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]} … {text[-half:]}"
