"""The result of an evaluation: metrics, their intervals, and every prediction."""

from __future__ import annotations

import functools
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, final

import numpy as np

from softprompt.config import choose
from softprompt.evaluation.resampling import Resampled, bootstrap, mean_of, resampled_metric
from softprompt.evaluation.ways import By
from softprompt.tasks import Example, Task, compute_metrics, match_label

__all__ = ["Evaluation", "Interval", "Prediction", "draw_rows", "measure"]

_RESAMPLES = 1000
_ILLEGAL = "illegal"


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
    """

    input: str
    targets: tuple[str, ...]
    prediction: str
    label: str | None = None
    probabilities: Mapping[str, float] | None = None
    source: str = ""


@final
@dataclass(frozen=True, kw_only=True)
class Evaluation(Mapping[str, float]):
    """Scores on a split of a task; a mapping from the metrics' names to scores in percent.

    Attributes:
        task: The task's name.
        split: The split's name.
        by: How predictions came about: generated, ranked, or always the majority's.
        metrics: Scores by name, in percent. Where labels are generated, `illegal` is the share of texts that are
            no label.
        predictions: One per row, in the data's order.
        metric_names: The task's metrics, from which the scores are.
        seed: Of the bootstrap.
        seconds: Wall time of the pass over the backbone; evaluations of one pass share it.
    """

    task: str
    split: str
    by: By | Literal["majority"]
    metrics: Mapping[str, float]
    predictions: tuple[Prediction, ...]
    metric_names: tuple[str, ...]
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
        """By metric, the 95 % percentile interval under resampling of the rows; computed when first asked for."""
        drawn = bootstrap(self.resampled(list(self)), len(self.predictions), resamples=_RESAMPLES, seed=self.seed)
        return {name: Interval(*np.quantile(scores, (0.025, 0.975)).tolist()) for name, scores in drawn.items()}

    def resampled(self, names: Collection[str]) -> dict[str, Resampled]:
        """Some scores as functions of how often each row counts.

        Args:
            names: Names of scores, as `metrics` has them.
        """
        said = [row.prediction for row in self.predictions]
        true = [row.targets for row in self.predictions]
        scores: dict[str, Resampled] = {}
        if _ILLEGAL in self.metrics:
            scores[_ILLEGAL] = mean_of(_illegal(self.predictions))
        # a metric mostly names its only score: those that are asked for come first, and others only if need be
        for metric in sorted(self.metric_names, key=lambda metric: metric not in names):
            if not scores.keys() >= set(names):
                scores |= resampled_metric(metric, said, true)
        return {name: scores[name] for name in names}

    def summary(self) -> dict[str, Any]:
        """All but the predictions as plain values, for JSON and tables."""
        return {
            "task": self.task,
            "split": self.split,
            "by": self.by,
            "rows": len(self.predictions),
            "metrics": dict(self.metrics),
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "seed": self.seed,
            "seconds": self.seconds,
        }


def draw_rows(examples: Sequence[Example], rows: int | None, seed: int) -> list[Example]:
    """The same rows for whoever is scored: all, or as many as asked for, in the data's order.

    Args:
        examples: The rows of a split.
        rows: How many; None takes all.
        seed: Of the draw.
    """
    if rows is None or rows >= len(examples):
        return list(examples)
    return [examples[index] for index in sorted(random.Random(seed).sample(range(len(examples)), rows))]


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
        Prediction(
            input=example.input,
            targets=example.targets,
            prediction=text,
            label=match_label(text, labels),
            probabilities=shares,
            source=example.source,
        )
        for example, text, shares in zip(examples, said, probabilities or [None] * len(said), strict=True)
    )
    metrics = compute_metrics(task.metrics, said, [example.targets for example in examples])
    if labels and by == "generate":
        metrics[_ILLEGAL] = float(_illegal(predictions).mean())
    return Evaluation(
        task=task.name,
        split=split,
        by=by,
        metrics=metrics,
        predictions=predictions,
        metric_names=task.metrics,
        seed=seed,
        seconds=seconds,
    )


def _illegal(predictions: tuple[Prediction, ...]) -> np.ndarray:
    return np.array([100.0 * (row.label is None) for row in predictions])
