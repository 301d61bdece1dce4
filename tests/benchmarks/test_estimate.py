"""The memory that a training was estimated to take is what it takes, on whole models."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.cases.estimate import measured, setting_bytes
from benchmarks.shapes import Weights


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of resident memory is Linux's")
@pytest.mark.parametrize("name", ["prompt tuning of T5"])
def test_the_estimate_is_within_15_percent_of_the_peak(name):
    took = measured(name, Weights(), keeps=False)
    assert 0.85 * took <= setting_bytes(name, Weights()) <= 1.15 * took
