"""The attention function."""

from __future__ import annotations

import pytest
import torch
from tests.families import zoo
from tests.unit.backbones.injections import injection
from torch import nn

from softprompt.backbones.attention import _inject, prepare_head
from softprompt.backbones.carrying import Carried, Injection, Site, carrying
from softprompt.errors import UnsupportedError

PROMPT = 4


def test_a_layer_that_gets_no_joint_mask_says_so():
    backbone = zoo.backbone("gpt2")
    columns = torch.ones(1, 2, dtype=torch.bool)
    four = torch.zeros(1, 1, 3, 3)
    with pytest.raises(UnsupportedError, match=r"GPT2Attention does not take its mask .*\(expected 5 columns, got 3\)"):
        backbone.call(
            Carried(injection=injection(columns, [0])), input_ids=torch.tensor([[5, 6, 7]]), attention_mask=four
        )


def test_the_head_runs_at_wanted_positions_only():
    hidden = torch.arange(12.0).view(2, 3, 2)
    kept = torch.tensor([[False, True, False], [True, False, True]])
    assert prepare_head(torch.nn.Identity(), (hidden,)) is None
    with carrying(Carried(kept=kept)):
        (got,) = prepare_head(torch.nn.Identity(), (hidden,))
    assert got.tolist() == [[[2.0, 3.0], [6.0, 7.0], [10.0, 11.0]]]


def test_a_view_of_the_last_column_is_copied_for_the_head():
    """torch multiplies a view of three axes row by row, each with a copy of the weights."""
    hidden = torch.arange(12.0).view(2, 3, 2)[:, -1:]
    with carrying(Carried()):
        (got,) = prepare_head(torch.nn.Identity(), (hidden,))
        assert got.is_contiguous()
        assert got.equal(hidden)
        assert prepare_head(torch.nn.Identity(), (got,)) is None


def test_a_layer_on_another_device_fetches_what_it_is_given():
    """In a model that `device_map` spreads over several devices, rows of one were looked up in keys of another."""
    later = torch.device("meta")
    layer, site = nn.Identity(), Site("decoder", 0)
    bank = torch.ones(3, 2, PROMPT, 8)
    columns = torch.ones(5, PROMPT, dtype=torch.bool)
    rows = torch.zeros(5, dtype=torch.long)
    load = Injection(
        keys={site: bank}, values={site: bank}, rows=rows, columns=columns, hidden={site: columns},
        starts=rows, causal=True, sites={layer: site},
    )  # fmt: skip
    own = torch.ones(5, 2, 6, 8, device=later)
    mask = torch.ones(5, 1, 6, PROMPT + 6, dtype=torch.bool, device=later)
    key, value, joint, _ = _inject(Carried(injection=load), layer, own, own, mask, {})
    assert (key.device, value.device, joint.device) == (later, later, later)
    assert key.shape == (5, 2, PROMPT + 6, 8)


@pytest.mark.parametrize("name", ["llama", "t5"])
@pytest.mark.parametrize("autocast", [False, True])
def test_on_a_cpu_attention_that_is_differentiated_is_in_float32(name, autocast, monkeypatch):
    """The kernel's backward took as long as all the rest of a step in bfloat16, and ten times that of float32."""
    backbone = zoo.fresh(name)
    if not autocast:
        backbone.model.to(torch.bfloat16)
    stock, seen = nn.functional.scaled_dot_product_attention, []

    def noting(query, key, value, attn_mask=None, **rest):
        out = stock(query, key, value, attn_mask=attn_mask, **rest)
        seen.append((out.requires_grad, out.dtype))
        return out

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", noting)
    embeddings = backbone.model.get_input_embeddings()(torch.tensor([[5, 6, 7, 8]])).detach()
    given = {"decoder_input_ids": torch.tensor([[0, 9]])} if name == "t5" else {}

    def logits(embeddings):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return backbone.call(Carried(), inputs_embeds=embeddings, **given).logits

    rows = embeddings.clone().requires_grad_()
    learned = logits(rows)
    learned.float().sum().backward()
    assert rows.grad.isfinite().all()
    assert {dtype for learns, dtype in seen if learns} == {torch.float32}
    seen.clear()
    with torch.no_grad():
        answered = logits(embeddings)
    assert {dtype for _, dtype in seen} == {torch.bfloat16}
    assert learned.dtype == answered.dtype
    difference = (learned.float() - answered.float()).norm() / answered.float().norm()
    assert difference < 0.02
