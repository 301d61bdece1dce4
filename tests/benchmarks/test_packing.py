"""The two ways that are compared run the same cells."""

from __future__ import annotations

from benchmarks import packing


def test_both_ways_have_the_same_runs():
    packed, alone = (packing.study("bundled:gpt-mini", 4, most) for most in (24, 1))
    assert len(packed.cells()) == 24
    assert [cell.identity for cell in packed.cells()] == [cell.identity for cell in alone.cells()]
    assert (packed.runs_per_session, alone.runs_per_session) == (24, 1)
