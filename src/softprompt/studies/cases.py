"""A few answers of what was scored, wrong and right ones, which stand in a file beside the table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from softprompt.evaluation import Evaluation
from softprompt.linefile import LineFile

__all__ = ["CASES", "CaseFile", "choose_cases", "is_right", "trimmed", "wrong_and_right"]

CASES = "cases"
"""What a row has besides when it is made; it goes into the file of cases, and not into the table."""
_WRONG, _RIGHT = 5, 2
_LONGEST = 400

Answer = Mapping[str, Any]


@final
class CaseFile:
    """The file of answers: a line per run, only ever appended to.

    Args:
        path: The file; it is made with the first line. A last line that a kill cut short is none.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = LineFile(path, "key", CASES)
        self._keys = set(self.by_key())
        self._is_cut = False

    def by_key(self) -> dict[str, Answer]:
        """What `choose_cases` gave, by the key of the run's row."""
        return {row["key"]: row for _, row in self._file if row is not None}

    def add(self, key: str, found: Mapping[str, Any]) -> None:
        """Append what `choose_cases` gave, unless there is a line of that key."""
        if key in self._keys:
            return
        if not self._is_cut:  # not before: who only reads may do so while another process writes
            self._file.cut()
            self._is_cut = True
        self._file.add({"key": key, **found})
        self._keys.add(key)


def choose_cases(evaluation: Evaluation) -> dict[str, Any]:
    """How many answers there are, how many of them are one of the targets, and a few of either, as plain values."""
    answers = [
        {
            "input": trimmed(one.input),
            "targets": [trimmed(target) for target in one.targets],
            "prediction": trimmed(one.prediction),
            "label": one.label,
            "probabilities": _finite(one.probabilities),
        }
        for one in evaluation.predictions
    ]
    right = sum(map(is_right, answers))
    chosen = [*wrong_and_right(answers, wrong=_WRONG, right=_RIGHT)]
    return {"split": evaluation.split, "answers": len(answers), "right": right, CASES: chosen}


def wrong_and_right(answers: Sequence[Answer], *, wrong: int, right: int) -> list[Answer]:
    """At most so many wrong answers, then right ones.

    Of ranked labels, those that were held most probable; of texts, those at even distances.

    Args:
        answers: With `targets`, `prediction`, and `label` and `probabilities` where there are some.
        wrong: How many wrong ones.
        right: How many right ones.
    """
    good = [one for one in answers if is_right(one)]
    bad = [one for one in answers if not is_right(one)]
    return [*_chosen(bad, wrong), *_chosen(good, right)]


def is_right(answer: Answer) -> bool:
    """Whether an answer, or the label that it is, is one of the targets, but for blanks around it."""
    said = answer["prediction"] if answer.get("label") is None else answer["label"]
    return said.strip() in {target.strip() for target in answer["targets"]}


def trimmed(text: str) -> str:
    """A text's beginning and end, if it is long."""
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]} … {text[-half:]}"


def _finite(probabilities: Mapping[str, float] | None) -> dict[str, float] | None:
    """Probabilities as a file takes them; None if one is no number."""
    if probabilities is None or not all(map(math.isfinite, probabilities.values())):
        return None
    return {label: float(value) for label, value in probabilities.items()}


def _chosen(answers: Sequence[Answer], most: int) -> Sequence[Answer]:
    if len(answers) <= most:
        return answers
    if all(one.get("probabilities") for one in answers):
        return sorted(answers, key=lambda one: -max(one["probabilities"].values()))[:most]
    return [answers[place * len(answers) // most] for place in range(most)]
