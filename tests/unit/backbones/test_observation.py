"""What one tiny pass shows of a model."""

from __future__ import annotations

import pytest
import torch
from tests.families import zoo
from transformers import BertConfig, BertForSequenceClassification, BertLMHeadModel, LlamaConfig, LlamaForCausalLM

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Site
from softprompt.backbones.observation import observe
from softprompt.errors import BackboneError


@pytest.mark.parametrize("family", zoo.of_kind("encoder-decoder"), ids=str)
def test_scaled_embeddings_are_found(family):
    seen = observe(zoo.backbone(family.name).model, injectable=True)
    assert seen.embedding_scale == pytest.approx(family.embedding_scale)
    assert seen.takes_positions is False


@pytest.mark.parametrize("family", zoo.of_kind("decoder-only"), ids=str)
def test_scales_inside_the_table_are_left_to_it(family):
    """Gemma's table scales what it gives, so its rows can stand for ids as they are."""
    seen = observe(zoo.backbone(family.name).model, injectable=True)
    assert seen.embedding_scale == 1
    assert seen.takes_positions == (family.name != "bloom")


def test_a_model_is_left_as_it_was():
    model = zoo.fresh("gemma3").model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules = [dict(vars(module)) for module in model.modules()]
    state = torch.get_rng_state()
    observe(model, injectable=True)
    assert [dict(vars(module)) for module in model.modules()] == modules
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert torch.get_rng_state().equal(state)


def test_a_model_that_reads_both_ways_continues_no_text():
    """BERT's language-model class was taken for a decoder whatever its configuration says."""
    with pytest.raises(BackboneError, match="BertLMHeadModel reads its input in both directions, so it cannot continu"):
        Backbone.from_model(BertLMHeadModel(BertConfig(**zoo.BERT)))
    assert Backbone.from_model(BertLMHeadModel(BertConfig(**zoo.BERT, is_decoder=True))).spec.kind == "decoder-only"


def test_what_is_not_injectable_has_no_sites():
    seen = observe(zoo.backbone("llama").model, injectable=False)
    assert (seen.sites, seen.spec.stacks) == ({}, {})
    assert seen.spec.no_prefix == "its attention does not go through transformers' attention interface"


@pytest.mark.parametrize(("kind", "limit"), [("default", 64), ("linear", 64), ("dynamic", 40), ("longrope", 40)])
def test_positions_that_depend_on_the_length_end_where_they_begin_to(kind, limit):
    """Beyond the original length such embeddings change with the longest row of a batch."""
    rope = {"rope_type": kind, "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 40}
    if kind == "longrope":
        rope |= {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    if kind == "default":
        rope = {"rope_type": kind, "rope_theta": 1e4}
    model = LlamaForCausalLM(LlamaConfig(**{**zoo.GROUPED, "rope_parameters": rope})).eval()
    assert observe(model, injectable=False).spec.max_positions == limit


def test_a_word_table_as_long_as_the_positions_is_no_position_table():
    config = BertConfig(**{**zoo.BERT, "vocab_size": zoo.POSITIONS, "max_position_embeddings": zoo.POSITIONS})
    seen = observe(BertForSequenceClassification(config).eval(), injectable=False)
    assert seen.spec.max_positions == zoo.POSITIONS


def test_sites_are_told_in_order():
    assert sorted(zoo.backbone("t5").sites.values()) == [
        Site(stack, layer)
        for stack, layers in (("cross", 2), ("decoder", 2), ("encoder", 3))
        for layer in range(layers)
    ]
