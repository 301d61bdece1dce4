"""What a step is told of its prompts before it is computed."""

from __future__ import annotations

import pytest
from tests.families import zoo

from softprompt.conditioning import Prompted
from softprompt.prompts import PrefixTuning, PromptTuning
from softprompt.training.step import holds_prompts


@pytest.mark.parametrize(
    ("conditioning", "asked", "tokens"),
    [
        ("auto", ["long", "short", None, "short"], 2 * 12),  # recorded together, the short one padded
        ("auto", ["long", "long"], 12),
        ("auto", ["long", "prefix"], 12 + 5),  # a prefix goes through no layer
        ("concatenation", ["long", "short"], 12 + 3),  # and inserted rows go with their inputs
        ("auto", [None], 0),
    ],
)
def test_prompts_are_held_where_what_is_computed_of_them_is_no_longer_than_a_pass(conditioning, asked, tokens):
    """Lengths were summed, and a step of one long prompt and many short ones computed far more than a pass at once."""
    backbone = zoo.backbone("gpt2")
    methods = {
        "long": PromptTuning(length=12, init="vocab"),
        "short": PromptTuning(length=3, init="vocab"),
        "prefix": PrefixTuning(length=5, hidden=None),
    }
    model = Prompted(
        backbone, {name: method.build(backbone) for name, method in methods.items()}, conditioning=conditioning
    )
    assert holds_prompts(model, asked, tokens)
    assert not holds_prompts(model, asked, tokens - 1)
