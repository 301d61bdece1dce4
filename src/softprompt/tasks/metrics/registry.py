"""Metrics by name, and several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from softprompt.errors import ConfigError, DataError
from softprompt.registry import Registry
from softprompt.tasks.metrics.answers import exact_match, token_f1
from softprompt.tasks.metrics.classes import accuracy, macro_f1
from softprompt.tasks.metrics.overlap import bleu, chrf, rouge1, rouge2, rouge_l
from softprompt.tasks.metrics.referents import wsc

__all__ = ["Metric", "compute_metrics", "get_metric", "metric_names", "register_metric"]

Metric: TypeAlias = Callable[[Sequence[str], Sequence[Sequence[str]]], dict[str, float]]
"""From one prediction and one or more references per row to scores by name, in percent from 0 to 100."""

METRICS: Registry[Metric] = Registry(
    "metric",
    "softprompt.metrics",
    {
        "accuracy": accuracy,
        "bleu": bleu,
        "chrf": chrf,
        "exact_match": exact_match,
        "macro_f1": macro_f1,
        "rouge1": rouge1,
        "rouge2": rouge2,
        "rougeL": rouge_l,
        "token_f1": token_f1,
        "wsc": wsc,
    },
)


def register_metric(name: str, metric: Metric) -> None:
    """Add a metric of your own; installed packages can offer theirs in the entry point group `softprompt.metrics`.

    Args:
        name: What tasks call it.
        metric: A plain function; its scores' names must differ from those of other metrics.

    Raises:
        ConfigError: If the name already stands for another metric.
    """
    METRICS.add(name, metric)


def metric_names() -> tuple[str, ...]:
    """All known metrics, sorted."""
    return METRICS.names()


def get_metric(name: str) -> Metric:
    """A metric by name.

    Raises:
        ConfigError: If there is none of that name.
    """
    return METRICS.get(name)


def compute_metrics(
    names: Iterable[str], predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """The scores of several metrics, in percent from 0 to 100.

    Args:
        names: Names of metrics, e.g. a task's.
        predictions: One text per row.
        references: One or more texts per row.

    Returns:
        Scores by name, in the metrics' order.

    Raises:
        ConfigError: If a metric is unknown, or two give a score the same name.
        DataError: If there are no rows, the numbers of rows differ, or a row has no reference.
    """
    metrics = {name: get_metric(name) for name in names}
    if not predictions or len(predictions) != len(references):
        raise DataError(
            f"Metrics compare predictions with references, one row each, but {len(predictions)} predictions and "
            f"{len(references)} rows of references came; give as many of each, and at least one."
        )
    for index, row in enumerate(references):
        if not row:
            raise DataError(f"Row {index} has no reference; give at least one for each prediction.")
    scores: dict[str, float] = {}
    for name, metric in metrics.items():
        for key, score in metric(predictions, references).items():
            if key in scores:
                raise ConfigError(f"The metric {name!r} gives {key!r}, as one before it does; name only one of them.")
            scores[key] = score
    return scores
