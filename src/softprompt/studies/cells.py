"""A cell: one run of a grid, told by plain values alone."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

from softprompt.config import choose
from softprompt.evaluation import TextPrompt
from softprompt.prompts import Combine
from softprompt.tasks import Task
from softprompt.training import WEIGHT_METHODS, Run, find_method

__all__ = [
    "ENSEMBLE",
    "ONLY_ON",
    "STARTS_FROM",
    "TEXT_PROMPT",
    "Cell",
    "Source",
    "comparable",
    "digest",
    "starts_elsewhere",
    "trains_prompt",
]

TEXT_PROMPT = "text_prompt"
"""What prompt design is called among the names of methods."""
ENSEMBLE = "ensemble"
"""What prompts that answer together are called among the names of methods."""
STARTS_FROM = "starts_from"
"""The setting of a method that names whose prompts its runs start from."""
ONLY_ON = "only_on"
"""The setting of a method that names the tasks that it is run on, where these are not all."""
_TRAIN_ROWS = "train_rows"
_TEXT_SETTINGS = ("text", "shots", "calibrate")
_ENSEMBLE_SETTINGS = ("of", "members", "combine")
_RUN = {f.name for f in dataclasses.fields(Run)} - {"name", "method", "task", "seed"}


@final
@dataclass(frozen=True, kw_only=True)
class Source:
    """Prompts that a cell needs: what another method learned, on the same backbone, with the values chosen for it.

    Attributes:
        task: The label of the task that they were learned on.
        method: The label of the method that learned them.
        seeds: Of the runs that did.
        said: What the grid says of that method and that task.
    """

    task: str
    method: str
    seeds: tuple[int, ...]
    said: Mapping[str, Any]


@final
@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a grid.

    Attributes:
        backbone: A hub id, a folder, or `bundled:NAME`.
        task: The task's label in the grid.
        words: The task's settings in the grid, but for where its files are.
        method: The method's label in the grid.
        settings: Plain settings of the method, of the run, and `train_rows`; the method's name is `method`.
        seed: Of the run; of an ensemble, the number of the draw.
        measured: How: the split and its rows, what a session decides, how the backbone is loaded, and how a trained
            prompt is looked at.
        title: What progress calls it.
        source: The prompts that it learns from; None if there are none.
        alone: That which the method of its source learns on its own task, where a measure compares the two.
    """

    backbone: str
    task: str
    words: Mapping[str, Any]
    method: str
    settings: Mapping[str, Any]
    seed: int
    measured: Mapping[str, Any]
    title: str
    source: Source | None = None
    alone: Source | None = None

    @cached_property
    def identity(self) -> str:
        """What a summary finds its row by: what the grid says of it. Models and data are not looked at."""
        said = dataclasses.asdict(self)
        del said["title"]
        for name in ("source", "alone"):
            if said[name] is None:
                del said[name]
        return digest(said)

    @property
    def needs(self) -> tuple[Source, ...]:
        """All prompts that it needs, in the order in which their runs are named."""
        return tuple(one for one in (self.source, self.alone) if one is not None)

    def key(self, backbone_digest: str, task_digest: str, source_keys: Sequence[str] = ()) -> str:
        """What keeps its row in a results table from being made twice: the same run on the same model and data.

        Args:
            backbone_digest: Digest of the backbone.
            task_digest: Digest of the task's rows and words.
            source_keys: Keys of the runs whose prompts it needs.
        """
        return digest([self.identity, backbone_digest, task_digest, *([list(source_keys)] if source_keys else [])])

    def run(self, name: str, task: Task, sources: Sequence[str] = ()) -> Run:
        """The run that it stands for.

        Args:
            name: Of the run.
            task: Its task.
            sources: Where the prompts lie that it needs, those that it starts from first; none if it needs none.

        Raises:
            ConfigError: If a setting is unknown or out of range.
        """
        own = {key: value for key, value in self.settings.items() if key in _RUN}
        left_out = (*_RUN, _TRAIN_ROWS, STARTS_FROM, "method")
        rest = {key: value for key, value in self.settings.items() if key not in left_out}
        if self.source is not None:
            rest |= {"init": "prompt", "source": list(sources[: len(self.source.seeds)])}
        method = find_method(self.settings["method"], rest)
        return Run(name=name, method=method, task=self.drawn(task), seed=self.seed, **own)

    def drawn(self, task: Task) -> Task:
        """The task with the training rows that the seed draws; with all of them where `train_rows` is not set.

        Raises:
            ConfigError: If there are not more training rows than that.
        """
        rows = self.settings.get(_TRAIN_ROWS)
        return task if rows is None else task.with_train_rows(rows, seed=self.seed)

    @property
    def is_ensemble(self) -> bool:
        """Whether it is prompts of other runs, which answer together."""
        return bool(self.settings["method"] == ENSEMBLE)

    @property
    def is_untrained(self) -> bool:
        """Whether nothing is trained: an ensemble, or the bare backbone with or without words before its input."""
        return self.is_ensemble or bool(self.settings["method"] == TEXT_PROMPT)

    def check_untrained(self) -> None:
        """Refuse settings that what is not trained has not.

        Raises:
            ConfigError: If there is one.
        """
        known = _ENSEMBLE_SETTINGS if self.is_ensemble else _TEXT_SETTINGS
        for name in self.settings:
            if name not in (*_RUN, *known, _TRAIN_ROWS, "method"):
                raise choose(f"setting of {self.method!r}", name, known)

    def text_prompt(self, task: Task) -> TextPrompt | None:
        """The words of prompt design: an instruction, examples drawn by its seed, or None for nothing.

        Raises:
            ConfigError: If there are not so many examples.
        """
        text, shots = self.settings.get("text") or "", self.settings.get("shots", 0)
        if shots:
            return TextPrompt.few_shot(self.drawn(task), shots, seed=self.seed, instruction=text)
        return TextPrompt(text) if text else None

    @property
    def combine(self) -> Combine:
        """How the prompts of an ensemble answer together."""
        combine: Combine = self.settings.get("combine", "vote")
        return combine

    @property
    def calibrates(self) -> bool:
        """Whether prompt design corrects what labels' probabilities are for inputs without content."""
        return bool(self.settings.get("calibrate", False))

    @property
    def tunes_weights(self) -> bool:
        """Whether it trains weights instead of a prompt."""
        return self.settings["method"] in WEIGHT_METHODS


def trains_prompt(settings: Mapping[str, Any]) -> bool:
    """Whether a run of such settings learns a prompt, not weights and not nothing."""
    return settings["method"] not in (TEXT_PROMPT, ENSEMBLE, *WEIGHT_METHODS)


def starts_elsewhere(settings: Mapping[str, Any]) -> bool:
    """Whether a run of such settings starts from a prompt that another learned."""
    return trains_prompt(settings) and bool(settings.get(STARTS_FROM))


def comparable(value: Any) -> Any:
    """A value of an axis that can be compared: of a list of lists, each is a tuple."""
    return tuple(value) if isinstance(value, list) else value


def digest(value: Any) -> str:
    """Digest of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
