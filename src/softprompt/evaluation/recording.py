"""Predictions in a file that grows while they are made: an evaluation that was stopped goes on behind them.

Each line is a row with its task, its split and what was said of it. What the rows of a split were predicted with
stands beside the file, in `NAME.settings.json`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, final

from softprompt.config import to_mapping
from softprompt.errors import ConfigError, DataError
from softprompt.evaluation.result import Evaluation, draw_rows, measure, predicted
from softprompt.prompts import SoftPrompt
from softprompt.prompts.registry import name_of
from softprompt.tasks import Example, Task

__all__ = ["PredictionFile", "Said", "digest_prompt", "read_evaluation"]

_REMEDY = "choose another output, or remove it."


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
        self._path = Path(path)
        self._beside = self._path.with_name(f"{self._path.name}.settings.json")
        self._holds = not self._path.exists() or self._path.is_file()

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
        if not self._holds:
            return []
        made_with = json.loads(json.dumps(made_with, default=str))
        known = self._settings()
        lines, size = self._lines(task.name, split)
        before = known.get(task.name, {}).get(split)
        if lines and before is None:
            raise self._without_settings()
        if lines and (differing := [name for name in made_with if before.get(name) != made_with[name]]):
            raise ConfigError(
                f"{self._path} holds predictions of {task.name} {split} that were made with another "
                f"{' and '.join(differing)}; {_REMEDY}"
            )
        said = self._said(task, split, examples, lines)
        if self._path.exists():
            os.truncate(self._path, size)
        if before != made_with:
            _write({**known, task.name: {**known.get(task.name, {}), split: made_with}}, self._beside)
        return said

    def add(self, task: Task, split: str, examples: Sequence[Example], said: Sequence[Said]) -> None:
        """Append rows and what was said of them, all at once."""
        rows = (
            {"task": task.name, "split": split, **asdict(predicted(task, example, *one))}
            for example, one in zip(examples, said, strict=True)
        )
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def evaluation(self, task: Task, split: str, examples: Sequence[Example], *, seed: int) -> Evaluation:
        """The scores of a split whose predictions are all there.

        Raises:
            ConfigError: If the file is none of predictions, or holds those of other rows.
            DataError: If rows of the split are missing.
        """
        if not self._path.is_file():
            raise DataError(f"There is no file {self._path}; check the path.")
        said = self._said(task, split, examples, self._lines(task.name, split)[0])
        if len(said) < len(examples):
            raise DataError(
                f"{self._path} holds predictions of {len(said)} rows of {task.name} {split}, not of "
                f"{len(examples)}; finish that evaluation, or ask for the same rows."
            )
        by = self._settings().get(task.name, {}).get(split, {}).get("by")
        if by is None:
            raise self._without_settings()
        return measure(
            task,
            split,
            examples,
            [one.text for one in said],
            by=by,
            probabilities=[one.probabilities for one in said],
            seed=seed,
        )

    def _settings(self) -> dict[str, Any]:
        """By task and split, what predictions were made with.

        Raises:
            ConfigError: If the file holds something, but nothing beside it says what it was made with.
        """
        if self._beside.is_file():
            settings: dict[str, Any] = json.loads(self._beside.read_text(encoding="utf-8"))
            return settings
        if self._path.exists() and self._path.stat().st_size:
            raise self._without_settings()
        return {}

    def _without_settings(self) -> ConfigError:
        return ConfigError(
            f"{self._path} exists, but {self._beside.name} beside it does not say what it was made with; {_REMEDY}"
        )

    def _lines(self, task: str, split: str) -> tuple[list[tuple[int, dict[str, Any]]], int]:
        """The numbered lines of a split, and the size in bytes of all whole lines."""
        found, size_bytes = [], 0
        if not self._path.exists():
            return [], 0
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                size_bytes += len(line)
                try:
                    row = json.loads(line)
                    mine = (row["task"], row["split"], row["prediction"])[:2] == (task, split)
                except (ValueError, KeyError, TypeError):
                    raise ConfigError(f"{self._path}:{number} is no prediction; {_REMEDY}") from None
                if mine:
                    found.append((number, row))
        return found, size_bytes

    def _said(
        self, task: Task, split: str, examples: Sequence[Example], lines: Sequence[tuple[int, Mapping[str, Any]]]
    ) -> list[Said]:
        said = []
        for place, (number, row) in enumerate(lines):
            if place == len(examples):
                raise ConfigError(
                    f"{self._path}:{number} is of more rows than the {len(examples)} of {task.name} {split}; {_REMEDY}"
                )
            example = examples[place]
            asked = [example.input, list(example.targets), task.group_of(example)]
            if [row.get(name) for name in ("input", "targets", "group")] != asked:
                raise ConfigError(f"{self._path}:{number} is of another row than {example.source}; {_REMEDY}")
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


def digest_prompt(prompt: SoftPrompt) -> str:
    """Hexadecimal digest of a prompt's method and values."""
    state = hashlib.sha256(json.dumps([name_of(prompt.method), to_mapping(prompt.method)], default=str).encode())
    for name, value in sorted(prompt().named().items()):
        state.update(name.encode())
        state.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()


def _write(settings: Mapping[str, Any], path: Path) -> None:
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(path)
