"""Where prompts go, counted in an input's tokens."""

from __future__ import annotations

import pytest
import torch

from softprompt.errors import ConfigError
from softprompt.prompts import placements

LENGTHS, MARKS = torch.tensor([0, 1, 4, 5, 6]), torch.tensor([[-1, -1], [-1, -1], [-1, -1], [0, 2], [6, 6]])


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("prepend", [[0], [0], [0], [0], [0]]),
        ("middle", [[0], [0], [2], [0], [6]]),
        ("append", [[0], [1], [4], [5], [6]]),
        ("template", MARKS.tolist()),
    ],
)
def test_built_in_placements(name, want):
    assert placements.find(name)(LENGTHS, MARKS).tolist() == want


def test_the_middle_of_rows_without_marks_is_half_way():
    assert placements.middle(LENGTHS, MARKS[:, :0]).tolist() == [[0], [0], [2], [2], [3]]


def test_an_unknown_placement_is_named():
    with pytest.raises(ConfigError, match=r"Unknown placement 'infix'.* Known: append, middle, prepend, template"):
        placements.find("infix")


def test_a_placement_can_be_added_once(monkeypatch):
    monkeypatch.setattr(placements.PLACEMENTS, "_values", dict(placements.PLACEMENTS._values))
    placements.register("second", lambda lengths, marks: lengths[:, None].clamp(max=1))
    assert placements.find("second")(LENGTHS, MARKS).tolist() == [[0], [1], [1], [1], [1]]
    assert placements.names() == ("append", "middle", "prepend", "second", "template")
    with pytest.raises(ConfigError, match="The placement 'second' is taken"):
        placements.register("second", placements.append)
