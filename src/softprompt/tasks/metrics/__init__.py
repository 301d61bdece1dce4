"""Metrics by name: plain functions with one signature, and the matching of generated text to labels."""

from softprompt.tasks.metrics.labels import match_label, normalise_label
from softprompt.tasks.metrics.registry import Metric, compute_metrics, get_metric, metric_names, register_metric

__all__ = [
    "Metric",
    "compute_metrics",
    "get_metric",
    "match_label",
    "metric_names",
    "normalise_label",
    "register_metric",
]
