"""What `softprompt evaluate` scores, on every task and split that is asked for."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

import softprompt as sp
from softprompt.errors import ConfigError
from softprompt.evaluation import Evaluation, TextPrompt, evaluate_majority, read_evaluation
from softprompt.loop.progress import Progress
from softprompt.prompts import Members
from softprompt.tasks import Task

__all__ = [
    "Found",
    "Scores",
    "on_backbone",
    "pick_splits",
    "read_prompt",
    "read_prompts",
    "read_texts",
    "scores_against",
]

Asked: TypeAlias = Sequence[tuple[Task, str]]
Found: TypeAlias = dict[tuple[str, str], Evaluation]
"""Evaluations by task and split."""


def pick_splits(task: Task, wanted: str | Sequence[str]) -> list[str]:
    """Those of the splits that a task has; what it has not is told on standard error.

    Raises:
        ConfigError: If it has none of them, or one is named twice.
    """
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"--split needs names that differ; got {names}.")
    there = [name for name in names if name in task.splits]
    if not there:
        task.examples(names[0])
    for name in names:
        if name not in there:
            print(f"{task.name} has no split {name!r} and is left out of it.", file=sys.stderr)
    return there


def read_prompt(path: str | Path) -> sp.SoftPrompt | Members:
    """A prompt, or the prompts of an ensemble.

    Raises:
        ArtefactError: If it is missing or damaged.
    """
    return Members.load(path) if Path(path, "ensemble.json").exists() else sp.SoftPrompt.load(path)


def read_prompts(path: str, tasks: Sequence[str]) -> dict[str, sp.SoftPrompt | Members]:
    """Prompts by the names of the tasks that they are for: one for all, or what a run on several tasks left.

    Args:
        path: A prompt's or an ensemble's folder, or one that has a prompt in a folder of its name for each task.
        tasks: The names.

    Raises:
        ArtefactError: If a prompt is missing or damaged.
    """
    inner = {name: Path(path, name) for name in tasks}
    if not Path(path, "prompt.json").exists() and any(Path(one, "prompt.json").exists() for one in inner.values()):
        return {name: sp.SoftPrompt.load(folder) for name, folder in inner.items()}
    return dict.fromkeys(tasks, read_prompt(path))


def on_backbone(backbone: sp.Backbone, members: Members) -> sp.Ensemble:
    """An ensemble that was read, ready to answer."""
    return sp.Ensemble(backbone, members.prompts, combine=members.combine)


def read_texts(
    tasks: Sequence[Task], text: str | None, shots: int | None, *, seed: int
) -> dict[str, TextPrompt | None]:
    """Words before the input by the names of the tasks: an instruction, examples of the task, both, or none.

    Args:
        tasks: Whose training rows the examples are drawn from.
        text: The instruction.
        shots: How many examples; None for none.
        seed: Of their draw.

    Raises:
        ConfigError: If a task has no training split, or not so many rows.
    """
    if shots is not None:
        return {task.name: TextPrompt.few_shot(task, shots, seed=seed, instruction=text or "") for task in tasks}
    return {task.name: None if text is None else TextPrompt(text) for task in tasks}


@final
@dataclass(kw_only=True)
class Scores:
    """Scores whatever predicts; the backbone is loaded when it is first needed.

    Attributes:
        load: Loads the backbone.
        progress: Where each task and split has a bar.
        rows: How many rows of each; None for all.
        options: What `sp.evaluate` takes besides.
    """

    load: Callable[[], sp.Backbone]
    progress: Progress
    rows: int | None
    options: Mapping[str, Any]

    @functools.cached_property
    def backbone(self) -> sp.Backbone:
        """The frozen model."""
        return self.load()

    def of_prompts(self, asked: Asked, prompts: Mapping[str, sp.SoftPrompt | Members], output: str | None) -> Found:
        """Of soft prompts, by the names of their tasks; one that goes by no task's name is for files."""
        return self._of([(task, split, prompts.get(task.name, prompts.get(""))) for task, split in asked], output)

    def of_texts(self, asked: Asked, texts: Mapping[str, TextPrompt | None], output: str | None) -> Found:
        """Of the backbone behind words, by the names of the tasks that they are for; by itself where there are none."""
        return self._of([(task, split, texts.get(task.name)) for task, split in asked], output)

    def of_majority(self, asked: Asked, output: str | None) -> Found:
        """Of the most frequent training target."""
        return {
            (task.name, split): evaluate_majority(task, split, rows=self.rows, output=output) for task, split in asked
        }

    def of_file(self, asked: Asked, path: str) -> Found:
        """Of predictions that were made before."""
        return {(task.name, split): read_evaluation(path, task, split, rows=self.rows) for task, split in asked}

    def _of(
        self, asked: Sequence[tuple[Task, str, sp.SoftPrompt | Members | TextPrompt | None]], output: str | None
    ) -> Found:
        found = {}
        for task, split, given in asked:
            prompt = on_backbone(self.backbone, given) if isinstance(given, Members) else given
            count = len(task.examples(split))
            bar = self.progress.add(f"{task.name} {split}", total=min(self.rows or count, count))
            found[task.name, split] = sp.evaluate(
                self.backbone, prompt, task, split, rows=self.rows, output=output, progress=bar.advance, **self.options
            )
        return found


def scores_against(scores: Scores, asked: Asked, against: str, output: str | None) -> Found:
    """Scores of what is compared with.

    Args:
        scores: Scores it.
        asked: Tasks and splits.
        against: A prompt's folder, the output file of another evaluation, `bare` or `majority`.
        output: The file of the first one's predictions; this one's go to a file beside it.

    Raises:
        ConfigError: If it is none of these.
    """
    beside = None if output is None else str(Path(output).with_suffix(f".against{Path(output).suffix}"))
    if Path(against).is_file():
        return scores.of_file(asked, against)
    if Path(against).is_dir():
        return scores.of_prompts(asked, read_prompts(against, [task.name for task, _ in asked]), beside)
    if against == "majority":
        return scores.of_majority(asked, beside)
    if against == "bare":
        return scores.of_texts(asked, {}, beside)
    raise ConfigError(
        f"--against {against}: there is no such folder or file; give a prompt's folder, the output file of another "
        "evaluation, bare or majority."
    )
