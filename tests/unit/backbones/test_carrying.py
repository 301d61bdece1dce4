"""What a call carries."""

from __future__ import annotations

import pytest
import torch

from softprompt.backbones.carrying import (
    Carried,
    Recorder,
    Trace,
    carried,
    carrying,
    repeat_rows,
    without_recording,
)
from softprompt.errors import ShapeError


def test_what_is_carried_ends_with_its_block():
    outer, inner = Carried(), Carried(recorder=Recorder())
    block = carrying(outer)
    for _ in range(2):
        with block:
            assert carried() is outer
            with carrying(inner), block:
                assert carried() is outer
            assert carried() is outer
        assert carried() is None
    with pytest.raises(ZeroDivisionError), block:
        _ = 1 / 0
    assert carried() is None


def test_a_recomputation_notes_nothing_again():
    kept = torch.tensor([[True, False]])
    load = without_recording(Carried(recorder=Recorder(), trace=Trace(), kept=kept))
    assert (load.recorder, load.trace) == (None, None)
    assert load.kept is kept
    assert without_recording(None) is None


def test_rows_are_repeated_side_by_side():
    """As `generate` repeats them for beams."""
    state = torch.tensor([3, 5])
    assert repeat_rows(state, 2) is state
    assert repeat_rows(state, 6).tolist() == [3, 3, 3, 5, 5, 5]
    with pytest.raises(ShapeError, match="A batch of 3 rows is no multiple of the 2 rows"):
        repeat_rows(state, 3)
