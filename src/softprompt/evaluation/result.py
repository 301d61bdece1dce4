"""The result of an evaluation: metrics, their intervals, and every prediction."""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, final

import numpy as np
from jaxtyping import Float

from softprompt.config import choose
from softprompt.evaluation.resampling import (
    Dear,
    Progress,
    Resampled,
    bootstrap,
    mean_of,
    pseudo_values,
    resampled_metric,
)
from softprompt.evaluation.ways import By
from softprompt.tasks import Answers, Example, Task, compute_available, match_label

__all__ = ["Evaluation", "Interval", "Prediction", "draw_rows", "measure", "predicted"]

_DRAWS = 1000
_FEWEST_UNITS = 2
_ILLEGAL, _EMPTY = "illegal", "empty"


class Interval(NamedTuple):
    """A 95 % interval, ends included."""

    low: float
    high: float


@final
@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One row of an evaluation.

    Attributes:
        input: What the task gives to the model, without any text prompt.
        targets: What it should say: one text, or several that are equally right.
        prediction: What it said or chose.
        label: The label that the prediction is; None if it is none, or the task has free text.
        probabilities: Of each label, where labels were ranked.
        source: Where the row stands in the data.
        group: What it has in common with rows that it is scored with; None where each is scored by itself.
    """

    input: str
    targets: tuple[str, ...]
    prediction: str
    label: str | None = None
    probabilities: Mapping[str, float] | None = None
    source: str = ""
    group: str | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Evaluation(Mapping[str, float]):
    """Scores on a split of a task; a mapping from the scores' names to scores, in percent unless a metric says else.

    Attributes:
        task: The task's name.
        split: The split's name.
        by: How predictions came about: generated, ranked, or always the majority's.
        metrics: Scores by name. Where labels are generated, `illegal` is the share of texts that are no label, and
            `empty` that of texts without any word, which are illegal too.
        predictions: One per row, in the data's order.
        metric_names: The task's metrics, from which the scores are.
        labels: The task's labels; none in free text.
        missing: By metric, why it could not be computed; its scores are not among `metrics`.
        seed: Of the bootstrap.
        seconds: Wall time of the pass over the backbone; evaluations of one pass share it.
    """

    task: str
    split: str
    by: By | Literal["majority"]
    metrics: Mapping[str, float]
    predictions: tuple[Prediction, ...]
    metric_names: tuple[str, ...]
    labels: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    seconds: float = field(default=0.0, compare=False)

    def __getitem__(self, name: str) -> float:
        if name not in self.metrics:
            raise KeyError(str(choose(f"metric of this evaluation of {self.task}", name, self.metrics)))
        return self.metrics[name]

    def __contains__(self, name: object) -> bool:
        return name in self.metrics

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)

    @functools.cached_property
    def intervals(self) -> Mapping[str, Interval]:
        """By score, the 95 % percentile interval under resampling of the rows; computed when first asked for.

        Rows of one group are drawn together. These are the intervals of ROUGE's official script and rouge-score. A
        score that cannot be computed for each draw has none: one of a slow metric that is no sum over rows, or one that
        fails on some draws.
        """
        return self.drawn_intervals()

    def drawn_intervals(self, progress: Progress | None = None) -> dict[str, Interval]:
        """The same, drawn anew.

        Args:
            progress: Told how many draws are made, and of how many.
        """
        drawn = bootstrap(
            self.resampled(list(self)),
            len(self.predictions),
            groups=self.answers.groups,
            resamples=_DRAWS,
            seed=self.seed,
            progress=progress,
        )
        ends = {name: np.quantile(scores, (0.025, 0.975)).tolist() for name, scores in drawn.items()}
        return {name: Interval(*both) for name, both in ends.items() if not math.isnan(both[0])}

    def outcomes(self, name: str) -> Float[np.ndarray, " units"] | None:
        """What each row, or each group of rows, makes of a score, so that differences on the same rows can be judged.

        Of a mean over rows these are the rows' own scores, of others the jackknife's pseudo-values.

        Args:
            name: Of one of the scores.

        Returns:
            None if the score cannot be computed without each of them, if that takes long, as of NIST and CIDEr on more
            than a thousand rows, or if there is one alone.
        """
        groups = self.answers.groups
        units = len(set(groups or range(len(self.predictions))))
        score = self.resampled([name]).get(name) if units >= _FEWEST_UNITS else None
        if score is None or (isinstance(score, Dear) and units > _DRAWS):
            return None
        values = pseudo_values(score, len(self.predictions), groups=groups)
        return values if np.isfinite(values).all() else None

    @property
    def answers(self) -> Answers:
        """The rows as metrics take them."""
        groups = [row.group for row in self.predictions if row.group is not None]
        return Answers(
            predictions=[row.prediction for row in self.predictions],
            references=[row.targets for row in self.predictions],
            labels=self.labels,
            groups=groups or None,
        )

    def resampled(self, names: Collection[str]) -> dict[str, Resampled]:
        """Some scores as functions of how often each row counts.

        Args:
            names: Names of scores, as `metrics` has them. Those that cannot be computed for each draw are left out.
        """
        scores = {key: mean_of(shares) for key, shares in _shares(self.predictions).items() if key in self.metrics}
        # a metric mostly names its only score: those that are asked for come first, and others only if need be
        for metric in sorted(self.metric_names, key=lambda metric: metric not in names):
            if not scores.keys() >= set(names):
                scores |= resampled_metric(metric, self.answers)
        return {name: scores[name] for name in names if name in scores}

    def summary(self) -> dict[str, Any]:
        """All but the predictions as plain values, for JSON and tables."""
        return {
            "task": self.task,
            "split": self.split,
            "by": self.by,
            "rows": len(self.predictions),
            "metrics": dict(self.metrics),
            "missing": dict(self.missing),
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "seed": self.seed,
            "seconds": self.seconds,
        }


def draw_rows(task: Task, split: str, rows: int | None, seed: int) -> list[Example]:
    """The same rows for whoever is scored: all, or as many as asked for, in the data's order.

    Args:
        task: The task. If its rows have groups, whole groups are drawn until there are as many rows, or a few more.
        split: Which of its splits.
        rows: How many; None takes all.
        seed: Of the draw.

    Raises:
        ConfigError: If the task has no such split.
    """
    examples = task.examples(split)
    if rows is None or rows >= len(examples):
        return list(examples)
    if task.group is None:
        return [examples[index] for index in sorted(random.Random(seed).sample(range(len(examples)), rows))]
    sizes = Counter(map(task.group_of, examples))
    groups = list(sizes)
    random.Random(seed).shuffle(groups)
    before = itertools.accumulate((sizes[group] for group in groups), initial=0)
    drawn = {group for group, taken in zip(groups, before, strict=False) if taken < rows}
    return [example for example in examples if task.group_of(example) in drawn]


def predicted(task: Task, example: Example, text: str, probabilities: Mapping[str, float] | None = None) -> Prediction:
    """A row with what was said of it.

    Args:
        task: Whose labels and groups to take.
        example: The row.
        text: What was said.
        probabilities: Of each label, where labels were ranked.
    """
    return Prediction(
        input=example.input,
        targets=example.targets,
        prediction=text,
        label=match_label(text, task.labels or ()),
        probabilities=probabilities,
        source=example.source,
        group=task.group_of(example),
    )


def measure(
    task: Task,
    split: str,
    examples: Sequence[Example],
    said: Sequence[str],
    *,
    by: By | Literal["majority"],
    probabilities: Sequence[Mapping[str, float] | None] | None = None,
    seed: int = 0,
    seconds: float = 0.0,
) -> Evaluation:
    """Score predictions.

    Args:
        task: Whose metrics and labels to take.
        split: The split's name.
        examples: The rows.
        said: A text for each row.
        by: How they came about.
        probabilities: For each row, those of the labels.
        seed: Of the bootstrap.
        seconds: Wall time that the predictions took.
    """
    labels = task.labels or ()
    predictions = tuple(
        predicted(task, example, text, shares)
        for example, text, shares in zip(examples, said, probabilities or [None] * len(said), strict=True)
    )
    metrics, missing = compute_available(task.metrics, task.answers(examples, said))
    if labels and by == "generate":
        metrics |= {key: float(shares.mean()) for key, shares in _shares(predictions).items()}
    return Evaluation(
        task=task.name,
        split=split,
        by=by,
        metrics=metrics,
        predictions=predictions,
        metric_names=tuple(name for name in task.metrics if name not in missing),
        labels=tuple(labels),
        missing=missing,
        seed=seed,
        seconds=seconds,
    )


def _shares(predictions: Sequence[Prediction]) -> dict[str, Float[np.ndarray, " rows"]]:
    """By row, 100 where a generated label is none, and where there is no text at all."""
    return {
        _ILLEGAL: np.array([100.0 * (row.label is None) for row in predictions]),
        _EMPTY: np.array([100.0 * (not row.prediction.strip()) for row in predictions]),
    }
