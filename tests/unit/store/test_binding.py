"""An imported prompt is applied only after it was bound to its backbone."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tests.unit.store import tiny

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.errors import MismatchError, UnsupportedError
from softprompt.prompts import PrefixTuning, PromptTuning, SoftPrompt
from softprompt.store import bind

ROWS = PromptTuning(length=3, init="random")
PREFIX = PrefixTuning(length=3, hidden=None)


def imported(method=ROWS, backbone=None):
    return tiny.unbound(method.build(backbone or tiny.causal()))


def test_an_unbound_prompt_is_refused_with_the_remedy():
    with pytest.raises(MismatchError, match=r"'mine' was imported for someone/model .* pass bind\(prompt, backbone\)"):
        Prompted(tiny.causal(), {"mine": imported()})


@pytest.mark.parametrize("method", [ROWS, PREFIX])
def test_a_bound_prompt_is_applied(method):
    backbone, prompt = tiny.causal(), imported(method)
    bound = bind(prompt, backbone)
    assert tiny.same(bound, prompt)
    assert bound.info.backbone == "tiny-causal"
    assert bound.info.kind == "decoder-only"
    assert Prompted(backbone, {"mine": bound})(torch.tensor([[5, 6, 7]])).logits.shape == (1, 3, 40)


def test_an_unbound_prompt_is_stored_and_bound_later(tmp_path):
    prompt = imported()
    loaded = SoftPrompt.load(prompt.save(tmp_path / "prompt"))
    assert loaded.info == prompt.info
    Prompted(tiny.causal(), {"mine": bind(loaded, tiny.causal())})


def test_binding_again_to_the_same_backbone_changes_nothing():
    bound = bind(imported(), tiny.causal())
    assert bind(bound, tiny.causal()).info == bound.info


def test_a_prompt_is_not_moved_to_another_model():
    with pytest.raises(MismatchError, match="bound to tiny-causal, which is another model than tiny-causal"):
        bind(ROWS.build(tiny.causal()), tiny.causal(seed=1))


def test_the_kind_must_agree():
    with pytest.raises(MismatchError, match=r"kind decoder-only .* but tiny-two-sided is encoder-decoder"):
        bind(imported(), tiny.two_sided())


@pytest.mark.parametrize(
    ("method", "other", "message"),
    [
        (ROWS, {"dim": 12}, "width 8, but tiny-causal expects 12"),
        (PREFIX, {"layers": 3}, r"\[2, 2, 2, 3, 4\], but tiny-causal expects \[3, 2, 2, 3, 4\]"),
        (PREFIX, {"dim": 12}, r"\[2, 2, 2, 3, 4\], but tiny-causal expects \[2, 2, 2, 3, 6\]"),
    ],
)
def test_shapes_must_agree(method, other, message):
    with pytest.raises(MismatchError, match=message):
        bind(imported(method), tiny.causal(**other))


def test_a_stack_that_the_model_lacks():
    prefix = tiny.unbound(PREFIX.build(tiny.two_sided())).with_info(kind=None)
    with pytest.raises(
        MismatchError,
        match=r"for someone/model gives the cross keys and values .* but tiny-causal expects no such stack",
    ):
        bind(prefix, tiny.causal())


def test_a_backbone_that_takes_no_prefix():
    backbone = Backbone.from_model(tiny.causal().model, name="closed")
    backbone.spec = dataclasses.replace(backbone.spec, no_prefix="its attention is its own affair")
    with pytest.raises(
        UnsupportedError, match="closed cannot take one, because its attention is its own affair; use prompt"
    ):
        bind(imported(PREFIX), backbone)
