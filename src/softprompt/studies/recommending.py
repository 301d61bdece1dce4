"""Settings for a backbone and a task by the rules of the papers, each with its reason and its source."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, final

from softprompt.backbones import Backbone
from softprompt.errors import ConfigError, UnsupportedError
from softprompt.prompts import PTuningV2
from softprompt.studies.rules import (
    KEYS,
    ROWS,
    Advice,
    Facts,
    choose_method,
    for_any,
    for_keys,
    for_mlp,
    for_rows,
    summary_rule,
)
from softprompt.tasks import Task
from softprompt.training.suitability import check_suits

__all__ = ["Advice", "Recommendation", "alternative", "recommend"]

_SAMPLE = 200


@final
@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """What to train with.

    Attributes:
        advice: One for each setting that a training should be given.
        beside: Other rules, which no paper backs: to be compared, not followed.
    """

    advice: tuple[Advice, ...]
    beside: tuple[Advice, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """The recommended values by their settings' names, `method` among them."""
        return {one.setting: one.value for one in self.advice}


def recommend(backbone: Backbone, task: Task, *, steps: int | None = None, length: int | None = None) -> Recommendation:
    """Settings by the rules of the papers, for a model of this size and kind and a task of this form.

    Args:
        backbone: The frozen model.
        task: The task; its training split is looked at.
        steps: The budget: most optimizer steps; the papers' own number if None.
        length: Virtual tokens, if they are given: by how many there are, a prompt can start from label words or not.

    Raises:
        ConfigError: If the task has no training split, or the budget is none.
        UnsupportedError: If the model is an encoder and the task asks for free text.
    """
    if steps is not None and steps < 1:
        raise ConfigError(f"steps={steps}: expected at least 1.")
    facts = _look(backbone, task, length)
    method = choose_method(facts)
    rules = {"prompt_tuning": for_rows, "prefix_tuning": for_mlp, "p_tuning_v2": for_keys}[method.value]
    return Recommendation(
        advice=(method, *rules(facts, steps), *for_any(facts)),
        beside=summary_rule(facts),
    )


def alternative(backbone: Backbone, task: Task, *, steps: int, length: int | None = None) -> dict[str, Any] | None:
    """Settings of the method that the rules did not choose but might have: rows for keys and values, or the reverse.

    Args:
        backbone: The frozen model.
        task: The task.
        steps: The budget.
        length: Virtual tokens, if they are given.

    Returns:
        As `Recommendation.settings`; None if the model or the task's template can take one method only.
    """
    facts = _look(backbone, task, length)
    if facts.segments:
        return None
    if choose_method(facts).value != "prompt_tuning":
        return _values(ROWS, for_rows(facts, steps), for_any(facts))
    return _values(KEYS, for_keys(facts, steps), for_any(facts)) if facts.no_prefix is None else None


def _look(backbone: Backbone, task: Task, length: int | None) -> Facts:
    examples = task.examples("train") if "train" in task.splits else ()
    if not examples:
        raise ConfigError(f"The task {task.name} has no training rows; give it a train split.")
    check_suits(backbone, PTuningV2(head=True), task)  # no head answers in free text
    reads = backbone.spec.kind == "encoder-only"
    return Facts(
        kind=backbone.spec.kind,
        parameters=sum(parameter.numel() for parameter in backbone.model.parameters()),
        no_prefix=backbone.spec.no_prefix,
        rows=len(examples),
        labels=len(task.labels or ()),
        input_words=fmean(len(example.input.split()) for example in examples[:_SAMPLE]),
        reads_tokens=reads and (task.tags is not None or task.context is not None),
        needs_head=not _answers(backbone, task),
        segments=task.format.segments,
        length=length,
    )


def _answers(backbone: Backbone, task: Task) -> bool:
    """Whether the backbone can answer the task as it is: writes, or has a head for it."""
    try:
        check_suits(backbone, None, task)
    except UnsupportedError:
        return False
    return True


def _values(method: Advice, *rest: Sequence[Advice]) -> dict[str, Any]:
    return {one.setting: one.value for one in (method, *itertools.chain(*rest))}
