"""A frozen model with its tokenizer."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.families import zoo
from transformers import BertConfig, BertModel, GPT2ForSequenceClassification, LlamaModel

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import carried
from softprompt.errors import BackboneError, ConfigError, UnsupportedError


@pytest.mark.parametrize("family", zoo.FAMILIES, ids=str)
def test_its_spec(family):
    spec = zoo.backbone(family.name).spec
    config = zoo.stock(family.name).config
    assert (spec.kind, spec.vocab) == (family.kind, zoo.VOCAB)
    assert spec.dim == (16 if family.name == "opt" else zoo.DIM)
    layers = {
        "decoder-only": {"decoder": 3},
        "encoder-only": {"encoder": 3},
        "encoder-decoder": {"encoder": 3, "cross": 2, "decoder": 2},
    }[family.kind]
    if family.name == "mt5":
        layers = {"encoder": 2, "cross": 3, "decoder": 3}
    if family.name == "bloom":
        layers = {}
    assert {name: stack.layers for name, stack in spec.stacks.items()} == layers
    if layers:
        heads = 1 if family.name == "gpt-bigcode" else getattr(config, "num_key_value_heads", None) or 4
        width = getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or 8
        assert {(stack.kv_heads, stack.head_dim) for stack in spec.stacks.values()} == {(heads, width)}
        assert (spec.kv_heads, spec.head_dim, spec.layers) == (heads, width, next(iter(layers.values())))
        assert spec.decoder_layers == layers.get("decoder", 0)
    bounded = family.name not in ("bloom", "t5", "t5-v1.1", "mt5")
    assert spec.max_positions == (zoo.POSITIONS if bounded else None)


@pytest.mark.parametrize("family", zoo.FAMILIES, ids=str)
def test_without_prompts_it_is_the_stock_model(family):
    backbone, stock = zoo.backbone(family.name), zoo.stock(family.name)
    ids, mask = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    reads = {"decoder_input_ids": ids[:, :2]} if family.kind == "encoder-decoder" else {}
    got = backbone.call(input_ids=ids, attention_mask=mask, **reads).logits
    want = stock(input_ids=ids, attention_mask=mask, **reads).logits
    assert got[0].equal(want[0])
    assert got[1, :2].allclose(want[1, :2], atol=1e-5)
    assert carried() is None


@pytest.mark.parametrize("family", zoo.FAMILIES, ids=str)
def test_embeddings_stand_for_ids(family):
    backbone = zoo.backbone(family.name)
    ids = torch.tensor([[5, 6, 7, 8]])
    reads = {"decoder_input_ids": ids[:, :2]} if family.kind == "encoder-decoder" else {}
    got = zoo.stock(family.name)(inputs_embeds=backbone.embed(ids), **reads).logits
    assert got.allclose(zoo.stock(family.name)(input_ids=ids, **reads).logits, atol=1e-5)


def test_it_is_frozen_and_in_evaluation_mode():
    model = copy.deepcopy(zoo.stock("gpt2")).train().requires_grad_(True)
    backbone = Backbone.from_model(model)
    assert backbone.model is model
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert backbone.name == "GPT2LMHeadModel"


def test_a_model_can_be_wrapped_twice():
    model = copy.deepcopy(zoo.stock("llama"))
    first, second = Backbone.from_model(model), Backbone.from_model(model)
    assert first.fingerprint == second.fingerprint
    assert len(second.sites) == len(first.sites) == 3
    assert len(model.get_output_embeddings()._forward_pre_hooks) == 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: LlamaModel(zoo.stock("llama").config), "LlamaModel has no head that softprompt can use"),
        (lambda: BertModel(BertConfig(**zoo.BERT, is_decoder=True)), "classifies with a causal model, which is not"),
        (
            lambda: GPT2ForSequenceClassification(zoo.stock("gpt2").config),
            "GPT2ForSequenceClassification classifies with a causal model, which is not supported",
        ),
        (lambda: _on_kernel("flex_attention"), "on the attention kernel 'flex_attention', which takes no masks"),
        (lambda: _cut_off(), "gives other logits for input_ids than for their embeddings"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused(model, message):
    with pytest.raises(BackboneError, match=message):
        Backbone.from_model(model())


def _on_kernel(kernel: str):
    model = copy.deepcopy(zoo.stock("llama"))
    model.config._attn_implementation = kernel
    return model


def _cut_off():
    """A model whose embeddings pass through a hook that rows given in their place do not."""
    model = copy.deepcopy(zoo.stock("llama"))
    table = model.get_input_embeddings()
    doubled = torch.nn.Embedding.from_pretrained(table.weight)
    model.model.register_forward_pre_hook(
        lambda module, args, options: (
            args,
            {**options, "input_ids": None, "inputs_embeds": doubled(options["input_ids"]) * 3}
            if options.get("input_ids") is not None
            else options,
        ),
        with_kwargs=True,
    )
    return model


def test_recorded_keys_and_values_are_the_cache_of_a_plain_pass():
    backbone = zoo.backbone("gemma3")
    ids = torch.tensor([[5, 6, 7], [8, 9, 0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    recorded = backbone.record(backbone.embed(ids), mask)
    for row, length in enumerate(mask.sum(-1).tolist()):
        cache = zoo.stock("gemma3")(ids[row : row + 1, :length], use_cache=True).past_key_values
        for layer in range(3):
            keys, values = recorded[("decoder", layer)]
            assert keys[row, :, :length].allclose(cache.layers[layer].keys[0], atol=1e-5)
            assert values[row, :, :length].allclose(cache.layers[layer].values[0], atol=1e-5)


def test_nothing_is_recorded_where_attention_is_out_of_reach():
    backbone = zoo.backbone("bloom")
    with pytest.raises(UnsupportedError, match="tiny bloom: nothing can be recorded, because its attention does not"):
        backbone.record(torch.zeros(1, 2, zoo.DIM), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(UnsupportedError, match="attention layers cannot be described"):
        _ = backbone.spec.layers


def test_without_tokenizer_texts_are_refused():
    backbone = Backbone.from_model(copy.deepcopy(zoo.stock("gpt2")), name="bare")
    with pytest.raises(BackboneError, match=r"bare has no tokenizer: pass token ids, or Backbone\.from_model"):
        backbone.tokenize("good")
    assert backbone.tokenizer_digest is None
    assert backbone.common_tokens(5) == [0, 1, 2, 3, 4]
    assert (backbone.pad_id, backbone.end_id) == (zoo.PAD, zoo.END)


def test_common_tokens_are_the_first_real_entries():
    backbone = zoo.backbone("gpt2")
    first = backbone.common_tokens(20)
    assert first == list(range(4, 24))  # behind the four special ones
    assert backbone.common_tokens(5000) == list(range(4, len(zoo.tokenizer("decoder-only"))))


def test_a_tokenizers_digest_follows_its_words_and_its_chat_template():
    def digest(change) -> str:
        tokenizer = copy.deepcopy(zoo.tokenizer("decoder-only"))
        change(tokenizer)
        return Backbone.from_model(copy.deepcopy(zoo.stock("gpt2")), tokenizer).tokenizer_digest

    same = digest(lambda tokenizer: None)
    assert same == zoo.backbone("gpt2").tokenizer_digest
    assert digest(lambda tokenizer: tokenizer.add_tokens(["films"])) != same
    assert digest(lambda tokenizer: setattr(tokenizer, "chat_template", "{{ messages }}")) != same


@pytest.mark.parametrize(
    ("kind", "ends"), [("gpt2", ([], [])), ("t5", ([], [zoo.END])), ("bert", ([zoo.START], [zoo.END]))]
)
def test_what_the_tokenizer_adds_is_known(kind, ends):
    backbone = zoo.backbone(kind)
    assert backbone.special_ends == ends
    assert backbone.tokenize("good", special=True) == [*ends[0], *backbone.tokenize("good"), *ends[1]]


def test_the_kernel_of_a_backbone_is_checked():
    with pytest.raises(ConfigError, match="attention='flash': expected one of sdpa, eager, or None"):
        Backbone.from_pretrained("anything", attention="flash")
