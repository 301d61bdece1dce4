"""Metrics by name: plain functions with one signature, and the matching of generated text to labels."""

from softprompt.tasks.metrics.labels import match_label, normalise_label
from softprompt.tasks.metrics.registry import (
    compute_available,
    compute_metrics,
    get_metric,
    get_scorer,
    metric_names,
    metric_of_score,
    register_metric,
)
from softprompt.tasks.metrics.signature import Answers, Metric, Scorer

__all__ = [
    "Answers",
    "Metric",
    "Scorer",
    "compute_available",
    "compute_metrics",
    "get_metric",
    "get_scorer",
    "match_label",
    "metric_names",
    "metric_of_score",
    "normalise_label",
    "register_metric",
]
