"""The ways to attend to a prompt that are compared give the same, and the same gradients."""

from __future__ import annotations

import pytest
import torch
from benchmarks.attention import WAYS, given, results


@pytest.mark.parametrize("way", [name for name in WAYS if name != "copied"])
def test_the_ways_differ_in_time_alone(way):
    values = given(heads=2)
    for found, want in zip(results(WAYS[way], values), results(WAYS["copied"], values), strict=True):
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
