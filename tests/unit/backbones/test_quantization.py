"""A backbone whose frozen weights are kept in fewer bits: smaller, nearly the same, and known as the same model."""

from __future__ import annotations

import sys

import pytest
import torch
from tests.families import zoo
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

import softprompt as sp
from softprompt.backbones.quantization import quantize
from softprompt.errors import ConfigError, MissingDependencyError, UnsupportedError

WIDTH = 128
"""Whole blocks of 4-bit weights."""
IDS = torch.tensor([[5, 6, 7, 8, 9], [8, 9, 10, 11, 12]])
CLOSE = {"int8": 0.1, "nf4": 0.5}
"""Of a gradient's length, random weights being the worst case."""


def fresh(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if kind == "decoder-only":
        shape = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}
        return LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape))
    shape = {"d_model": WIDTH, "d_ff": WIDTH, "d_kv": 32, "num_heads": 4, "num_layers": 2}
    return T5ForConditionalGeneration(T5Config(vocab_size=64, decoder_start_token_id=0, **shape))


@pytest.fixture(params=["decoder-only", "encoder-decoder"])
def folder(request, tmp_path):
    fresh(request.param).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def held_bytes(model: torch.nn.Module) -> int:
    """Bytes of a model's parameters, those inside quantised ones among them."""

    def size(tensor: torch.Tensor) -> int:
        if hasattr(tensor, "__tensor_flatten__"):
            return sum(size(getattr(tensor, part)) for part in tensor.__tensor_flatten__()[0])
        return tensor.numel() * tensor.element_size()

    return sum(map(size, model.parameters()))


def learned(backbone: sp.Backbone, prompt: sp.SoftPrompt) -> tuple[float, torch.Tensor]:
    labels = IDS.clone()
    labels[:, :-2] = -100
    model = sp.Prompted(backbone, {"a": prompt})
    prompt.zero_grad()
    loss = model(IDS, labels=labels).loss
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in prompt.parameters()])


@pytest.mark.parametrize("method", [sp.PromptTuning(length=4, init="random"), sp.PrefixTuning(length=4, hidden=None)])
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_gradients_pass_through_quantised_weights(folder, kind, method):
    plain = sp.Backbone.from_pretrained(folder, dtype="float32")
    small = sp.Backbone.from_pretrained(folder, dtype="float32", quantize=kind)
    assert held_bytes(small.model) < {"int8": 0.4, "nf4": 0.3}[kind] * held_bytes(plain.model)
    prompt = method.build(plain, seed=0)
    loss, gradient = learned(plain, prompt)
    small_loss, small_gradient = learned(small, prompt)  # which takes it: it is the same model
    assert small_loss == pytest.approx(loss, rel=0.05)
    assert small_loss != loss
    assert (small_gradient - gradient).norm() < CLOSE[kind] * gradient.norm()
    assert all(parameter.grad is None for parameter in small.model.parameters())


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_the_shared_pass_stays_exact(tmp_path, kind):
    fresh("decoder-only").save_pretrained(tmp_path)
    backbone = sp.Backbone.from_pretrained(tmp_path, dtype="float32", quantize=kind)
    prompt = sp.PromptTuning(length=4, init="vocab").build(backbone, seed=0)
    shared = sp.Prompted(backbone, {"a": prompt})
    assert shared.pass_of("a") == "shared"
    other = sp.Prompted(backbone, {"a": prompt}, conditioning="concatenation")
    with torch.no_grad():
        assert shared(IDS).logits.allclose(other(IDS).logits, atol=1e-4)


def test_a_prompt_knows_its_model_in_any_bits(tmp_path):
    fresh("decoder-only").save_pretrained(tmp_path / "model")
    plain, small = (sp.Backbone.from_pretrained(tmp_path / "model", quantize=kind) for kind in (None, "nf4"))
    assert plain.fingerprint == small.fingerprint
    assert plain.identity != small.identity  # its answers are others
    prompt = sp.PromptTuning(length=4, init="vocab").build(small, seed=0)
    prompt.save(tmp_path / "prompt")
    sp.Prompted(plain, {"a": sp.SoftPrompt.load(tmp_path / "prompt")})


def test_embeddings_and_head_stay_as_they_are():
    model = fresh("decoder-only")
    quantize(model, "int8")
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        assert type(module.weight) is torch.nn.Parameter
    assert type(model.model.layers[0].mlp.up_proj.weight) is not torch.nn.Parameter


def test_an_encoders_head_stays_as_it_is(tmp_path):
    shape = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 4}
    BertForSequenceClassification(BertConfig(vocab_size=64, **shape)).save_pretrained(tmp_path)
    model = sp.Backbone.from_pretrained(tmp_path, quantize="int8").model
    assert type(model.classifier.weight) is torch.nn.Parameter
    assert type(model.bert.encoder.layer[0].output.dense.weight) is not torch.nn.Parameter


def test_weights_that_another_quantised_are_refused(tmp_path):
    fresh("decoder-only").save_pretrained(tmp_path)
    other = sp.Backbone.from_model(sp.Backbone.from_pretrained(tmp_path, quantize="int8").model)
    with pytest.raises(UnsupportedError, match="LlamaForCausalLM keeps its weights in a form that tells nothing"):
        _ = other.fingerprint


def test_weights_that_are_quantised_cannot_be_trained(tmp_path):
    fresh("decoder-only").save_pretrained(tmp_path)
    backbone = sp.Backbone.from_pretrained(tmp_path, quantize="int8")
    rows = [{"text": f"a {index}", "label": "b"} for index in range(9)]
    task = sp.Task.from_rows({"train": rows}, input="{text}", target="{label}")
    run = sp.Run(name="all", method=sp.ModelTuning(), task=task, steps=1)
    with pytest.raises(UnsupportedError, match="keeps its weights in int8, which cannot be trained; load it without"):
        sp.train(backbone, [run])


def test_convolutions_are_no_linear_layers():
    with pytest.raises(UnsupportedError, match="GPT2LMHeadModel has no linear layers that could be kept in int8"):
        quantize(zoo.fresh("gpt2").model, "int8")


def test_unknown_ways_are_refused():
    with pytest.raises(ConfigError, match=r"Unknown quantisation 'int3'.* Known: int8, nf4"):
        quantize(fresh("decoder-only"), "int3")


def test_without_torchao_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'softprompt\[quantize\]'"):
        quantize(fresh("decoder-only"), "int8")
