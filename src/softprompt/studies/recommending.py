"""Settings to begin with, each with its reason and source; or the best of a small search.

The rules are those of the papers, by the model's size and what the task asks for. What a paper does not say is said
to be softprompt's own default.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import Any, final

from softprompt.backbones import Backbone
from softprompt.conditioning.probe import probe
from softprompt.errors import ConfigError
from softprompt.tasks import Task

__all__ = ["Advice", "Recommendation", "recommend", "rule_of_thumb"]

_BILLION = 1e9
_LARGE = 10 * _BILLION
_LONG_INPUT = 200
_FEW_ROWS = 1000


@final
@dataclass(frozen=True, kw_only=True)
class Advice:
    """One setting.

    Attributes:
        setting: Its name, as `softprompt train` knows it.
        value: Its value.
        reason: Why.
        source: Who says so.
    """

    setting: str
    value: Any
    reason: str
    source: str


@final
@dataclass(frozen=True)
class Recommendation:
    """Settings of a run, in the order of their weight."""

    advice: tuple[Advice, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name."""
        return {one.setting: one.value for one in self.advice}


def rule_of_thumb(parameters: int) -> dict[str, Any]:
    """A formula that goes around, and stands in no paper: offered for comparison, as what it is.

    Args:
        parameters: Of the backbone.
    """
    return {
        "length": max(1, round(min(150, parameters / 1e8 * 10))),
        "learning_rate": round(0.3 / math.sqrt(parameters / _BILLION), 4),
        "init": "vocab" if parameters < 3 * _BILLION else "random",
    }


def recommend(backbone: Backbone, task: Task, *, steps: int | None = None) -> Recommendation:
    """Settings to begin with.

    Args:
        backbone: The frozen model.
        task: What is to be learned.
        steps: How many optimizer steps there is time for; None takes what the papers would, by the number of rows.

    Raises:
        ConfigError: If there are no steps to take, or the task has no rows to train on.
    """
    if steps is not None and steps < 1:
        raise ConfigError(f"steps={steps}: expected at least 1.")
    rows = len(task.examples("train"))
    if not rows:
        raise ConfigError(f"The task {task.name!r} has no rows to train on.")
    parameters = sum(parameter.numel() for parameter in backbone.model.parameters())
    method = _method(backbone, task, parameters)
    chosen = method.value
    start = _start(task, rows, chosen)
    rate = _rate(chosen)
    batch = _batch(task, rows)
    return Recommendation(
        (method, _length(task, parameters, chosen), start, *rate, batch, _steps(rows, batch.value, steps), _schedule())
    )


def _method(backbone: Backbone, task: Task, parameters: int) -> Advice:
    refusal = probe(backbone).prefix
    if refusal is not None:
        return Advice(
            setting="method",
            value="prompt_tuning",
            reason=f"{backbone.name} cannot be given keys and values: {refusal}",
            source="probe of the backbone",
        )
    if task.labels is None:
        return Advice(
            setting="method", value="prefix_tuning", reason="the task is to generate text, where prefixes were found to"
            " be better than rows at the input alone", source="Li and Liang 2021, §7.2",
        )  # fmt: skip
    if parameters >= _LARGE:
        return Advice(
            setting="method", value="prompt_tuning", reason="rows at the input reach model tuning at this size,"
            " with the fewest values", source="Lester et al. 2021, §3.1, figure 1",
        )  # fmt: skip
    return Advice(
        setting="method", value="p_tuning_v2", reason="below about 10 billion parameters rows at the input alone fall"
        " behind keys and values in every layer", source="Liu et al. 2022, §4.2",
    )  # fmt: skip


def _length(task: Task, parameters: int, method: str) -> Advice:
    if method == "prompt_tuning":
        if parameters >= _LARGE:
            return Advice(setting="length", value=20, reason="beyond 20 rows gains are marginal; the largest model does"
                          " well with one", source="Lester et al. 2021, §3.2, figure 3a")  # fmt: skip
        return Advice(setting="length", value=100, reason="smaller models gain up to 100 rows",
                      source="Lester et al. 2021, §3.2, figure 3a")  # fmt: skip
    if task.labels is not None:
        return Advice(setting="length", value=20, reason="simple classification was best below 20 to 30 virtual tokens",
                      source="Liu et al. 2022, §3.3")  # fmt: skip
    words = fmean(len(example.input.split()) for example in task.examples("train")[:200])
    if words > _LONG_INPUT:
        return Advice(setting="length", value=200, reason=f"inputs are long ({words:.0f} words): as in summarisation",
                      source="Li and Liang 2021, §7.1")  # fmt: skip
    return Advice(setting="length", value=10, reason=f"inputs are short ({words:.0f} words): as in table-to-text",
                  source="Li and Liang 2021, §7.1")  # fmt: skip


def _start(task: Task, rows: int, method: str) -> Advice:
    if method == "prompt_tuning":
        if task.labels is not None:
            return Advice(setting="init", value="class_labels", reason="label words are the best start at all sizes but"
                          " the largest", source="Lester et al. 2021, §3.2, figure 3b")  # fmt: skip
        return Advice(setting="init", value="vocab", reason="without label words, common words are the next best",
                      source="Lester et al. 2021, §3.2, figure 3b")  # fmt: skip
    if task.labels is None and rows < _FEW_ROWS:
        return Advice(setting="init", value="vocab", reason=f"with {rows} rows a random start is unstable; that of"
                      " real words' activations is not", source="Li and Liang 2021, §7.4")  # fmt: skip
    return Advice(setting="init", value="random", reason="with enough rows the start of a prefix matters little",
                  source="Li and Liang 2021, §7.4")  # fmt: skip


def _rate(method: str) -> tuple[Advice, ...]:
    if method == "prompt_tuning":
        said = "Lester et al. 2021, §3.1"
        return (
            Advice(setting="optimizer", value="adafactor", reason="with a given rate, without scaling", source=said),
            Advice(setting="learning_rate", value=0.3, reason="the paper's; smaller models want a search", source=said),
        )
    if method == "p_tuning_v2":
        said = "Liu et al. 2022, appendix"
        return (
            Advice(setting="optimizer", value="adamw", reason="as in the paper", source=said),
            Advice(setting="learning_rate", value=0.01, reason="between 5e-3 and 1e-2 there", source=said),
        )
    said = "Li and Liang 2021, appendix"
    return (
        Advice(setting="optimizer", value="adamw", reason="as in the paper", source=said),
        Advice(setting="learning_rate", value=5e-5, reason="of a prefix behind its MLP", source=said),
    )


def _batch(task: Task, rows: int) -> Advice:
    if task.labels is None:
        return Advice(setting="batch_size", value=min(rows, 10), reason="between 5 and 14 there",
                      source="Li and Liang 2021, appendix")  # fmt: skip
    return Advice(
        setting="batch_size", value=min(rows, 32), reason="as in the paper", source="Lester et al. 2021, §3.1"
    )


def _steps(rows: int, batch: int, steps: int | None) -> Advice:
    if steps is not None:
        return Advice(setting="steps", value=steps, reason="what there is time for", source="you")
    wanted = math.ceil(rows / batch) * 10
    most = 30_000
    return Advice(setting="steps", value=min(wanted, most), reason=f"ten epochs of {rows} rows, at most {most}",
                  source="Li and Liang 2021, appendix; Lester et al. 2021, §3.1")  # fmt: skip


def _schedule() -> Advice:
    return Advice(setting="schedule", value="linear", reason="to zero, so that the last step is a good one",
                  source="softprompt's default for short runs")  # fmt: skip
