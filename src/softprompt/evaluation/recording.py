"""Predictions in a file that grows while they are made: an evaluation that was stopped goes on behind them.

Each line is a row with its task, its split and what was said of it. What the rows of a split were predicted with
stands beside the file, in `NAME.settings.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, final

from softprompt.errors import DataError
from softprompt.evaluation.result import Evaluation, draw_rows, measure, predicted
from softprompt.linefile import LineFile, as_read
from softprompt.tasks import Example, Task

__all__ = ["PredictionFile", "Said", "read_evaluation"]


class Said(NamedTuple):
    """What was said of a row.

    Attributes:
        text: What the model said or chose.
        probabilities: Of each label, where labels were ranked.
    """

    text: str
    probabilities: Mapping[str, float] | None = None


@final
class PredictionFile:
    """Predictions of any number of tasks and splits, appended in the order in which they are made.

    Args:
        path: The file, which need not exist. One that is no regular file, such as a pipe, is only written to.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = LineFile(path, "task", "split", "prediction")

    def begin(self, task: Task, split: str, examples: Sequence[Example], made_with: Mapping[str, Any]) -> list[Said]:
        """What the file holds of a split's rows; a half-written last line is cut off.

        Args:
            task: The task.
            split: Its split.
            examples: All rows to predict, in their order.
            made_with: What the predictions of the split are made with; plain values.

        Returns:
            What was said of the first rows; none of a split that the file does not know.

        Raises:
            ConfigError: If the file holds predictions of other rows, or made with other settings.
        """
        if not self._file.keeps:
            return []
        made_with = as_read(made_with)
        known = self._file.made_with()
        lines = self._lines(task.name, split)
        before = known.get(task.name, {}).get(split)
        if lines and before is None:
            raise self._file.of_unknown_settings()
        if lines:
            self._file.check_made_with(before, made_with, f"predictions of {task.name} {split}")
        said = self._said(task, split, examples, lines)
        self._file.cut()
        if before != made_with:
            self._file.keep_made_with({**known, task.name: {**known.get(task.name, {}), split: made_with}})
        return said

    def add(self, task: Task, split: str, examples: Sequence[Example], said: Sequence[Said]) -> None:
        """Append rows and what was said of them, all at once."""
        rows = (
            {"task": task.name, "split": split, **asdict(predicted(task, example, *one))}
            for example, one in zip(examples, said, strict=True)
        )
        self._file.add(*rows)

    def evaluation(self, task: Task, split: str, examples: Sequence[Example], *, seed: int) -> Evaluation:
        """The scores of a split whose predictions are all there.

        Raises:
            ConfigError: If the file is none of predictions, or holds those of other rows.
            DataError: If rows of the split are missing.
        """
        if not self._file.path.is_file():
            raise DataError(f"There is no file {self._file.path}; check the path.")
        said = self._said(task, split, examples, self._lines(task.name, split))
        if len(said) < len(examples):
            raise DataError(
                f"{self._file.path} holds predictions of {len(said)} rows of {task.name} {split}, not of "
                f"{len(examples)}; finish that evaluation, or ask for the same rows."
            )
        by = self._file.made_with().get(task.name, {}).get(split, {}).get("by")
        if by is None:
            raise self._file.of_unknown_settings()
        return measure(
            task,
            split,
            examples,
            [one.text for one in said],
            by=by,
            probabilities=[one.probabilities for one in said],
            seed=seed,
        )

    def _lines(self, task: str, split: str) -> list[tuple[int, dict[str, Any]]]:
        """The numbered lines of a split."""
        found = []
        for number, row in self._file:
            if row is None:
                raise self._file.refused(f":{number} is no prediction")
            if (row["task"], row["split"]) == (task, split):
                found.append((number, row))
        return found

    def _said(
        self, task: Task, split: str, examples: Sequence[Example], lines: Sequence[tuple[int, Mapping[str, Any]]]
    ) -> list[Said]:
        said = []
        for place, (number, row) in enumerate(lines):
            if place == len(examples):
                raise self._file.refused(f":{number} is of more rows than the {len(examples)} of {task.name} {split}")
            example = examples[place]
            asked = [example.input, list(example.targets), task.group_of(example)]
            if [row.get(name) for name in ("input", "targets", "group")] != asked:
                raise self._file.refused(f":{number} is of another row than {example.source}")
            said.append(Said(row["prediction"], row.get("probabilities")))
        return said


def read_evaluation(
    path: str | Path, task: Task, split: str = "validation", *, rows: int | None = None, seed: int = 0
) -> Evaluation:
    """The evaluation whose predictions `evaluate` wrote to a file, scored anew, without a model.

    Args:
        path: The file.
        task: The task; it may have other metrics than then.
        split: Which of its splits.
        rows: How many rows were evaluated; None for all.
        seed: Of the draw of rows and of the bootstrap.

    Raises:
        ConfigError: If the file is none of predictions, or holds those of other rows.
        DataError: If there is no such file, or rows of the split are missing.
    """
    return PredictionFile(path).evaluation(task, split, draw_rows(task, split, rows, seed), seed=seed)
