"""conftest.py has every annotation of softprompt checked while tests run."""

from __future__ import annotations

from dataclasses import dataclass

import jaxtyping
import pytest
import torch
from jaxtyping import Float, TypeCheckError
from tests.checking import checked, typed
from torch import Tensor

from softprompt.conditioning.padding import repad
from softprompt.config import choose
from softprompt.errors import ConfigError


def test_a_wrong_type_is_refused():
    with pytest.raises(TypeCheckError, match="known"):
        choose("method", "tuning", 3)


def test_sizes_of_two_arguments_are_compared():
    ids, mask = torch.ones(2, 3, dtype=torch.long), torch.ones(2, 4, dtype=torch.bool)
    with pytest.raises(TypeCheckError, match="mask"):
        repad(ids, mask, side="left")
    repad(ids, mask[:, :3], side="left")


@checked(typechecker=typed)
def doubled(values: Float[Tensor, " seq"], times: int = 2) -> Float[Tensor, " 2*seq"]:
    """Twice the values, one after the other, or as often as is asked for."""
    return values.repeat(times)


def test_sizes_of_what_is_given_back_are_compared():
    assert len(doubled(torch.zeros(3))) == 6
    with pytest.raises(TypeCheckError, match="return"):
        doubled(torch.zeros(3), 3)


def test_fields_are_checked_when_an_object_is_made():
    @checked(typechecker=typed)
    @dataclass
    class Row:
        text: str

    assert Row("a").text == "a"
    with pytest.raises(TypeCheckError, match="text"):
        Row(1)


def test_checks_can_be_left_out(monkeypatch):
    """For tests of what softprompt says itself of a wrong type."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    assert len(doubled(torch.zeros(3), 3)) == 9
    assert isinstance(choose("method", "tuning", {"tuned": 1}), ConfigError)
