"""Fixtures of the tasks' tests."""

from __future__ import annotations

import pytest

from softprompt.tasks import metric_names, register_metric
from softprompt.tasks.metrics import registry


@pytest.fixture
def metrics_stood_in_for(monkeypatch):
    """The registry, put back as it was after the test; a metric that it lacks is stood in for."""
    monkeypatch.setattr(registry.METRICS, "_values", dict(registry.METRICS._values))
    for name in {"binary_f1", "multirc", "record"} - set(metric_names()):
        register_metric(name, lambda predictions, references: {})
