"""What a call carries."""

from __future__ import annotations

import pytest
from tests.families import zoo

from softprompt.backbones.carrying import Carried, Recorder, Site, carried, carrying


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


def test_sites_are_told_in_order():
    assert sorted(zoo.backbone("t5").sites.values()) == [
        Site(stack, layer)
        for stack, layers in (("cross", 2), ("decoder", 2), ("encoder", 3))
        for layer in range(layers)
    ]
