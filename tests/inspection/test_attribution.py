"""Shares of a prediction."""

from __future__ import annotations

import pytest
import torch
from tests.families import zoo
from tests.inspection.prompts import FAMILIES, made, samples

from softprompt.conditioning import Prompted
from softprompt.conditioning.texts import EncodedInput
from softprompt.errors import ConfigError, DataError, UnsupportedError
from softprompt.inspection import Sample, attribute
from softprompt.prompts import PromptTuning
from softprompt.tasks import TextFormat

CASES = [(family, method) for family in FAMILIES for method in ("rows", "prefix")]


@pytest.mark.parametrize(("family", "method"), [*CASES, ("gpt2", "behind"), ("gpt2", "inside"), ("t5", "inside")])
def test_integrated_gradients_add_up(family, method):
    backbone, prompt = zoo.backbone(family), made(family, method)
    steps = 256 if (family, method) == ("llama", "rows") else 48  # a norm without mean bends near the baseline
    found = attribute(backbone, prompt, samples(family)[0], steps=steps)
    difference = found.log_probability - found.baseline
    assert sum(found.rows) + sum(found.tokens) - difference == pytest.approx(found.gap, abs=1e-5)
    assert abs(found.gap) < 0.05 * max(1.0, abs(difference))
    assert len(found.rows) == prompt.length
    assert len(found.words) == len(found.tokens) == 4
    if method == "prefix":
        assert len(found.layers) == len(backbone.sites)
        assert sum(found.layers.values()) == pytest.approx(sum(found.rows), abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_prediction_is_the_models(family):
    backbone, prompt, sample = zoo.backbone(family), made(family, "rows"), samples(family)[0]
    found = attribute(backbone, prompt, sample, way="gradient_x_input")
    ids, target = torch.tensor([sample.input.ids]), torch.tensor([sample.target])
    model = Prompted(backbone, {"p": prompt})
    with torch.no_grad():
        if backbone.spec.kind == "decoder-only":
            labels = torch.cat([torch.full_like(ids, -100), target], dim=1)
            out = model(torch.cat([ids, target], dim=1), prompts="p", labels=labels)
        else:
            out = model(ids, prompts="p", labels=target[0] if backbone.spec.kind == "encoder-only" else target)
    assert found.log_probability == pytest.approx(-float(out.losses.sum()), abs=1e-4)
    assert found.gap is None


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_times_input_is_what_training_sees(family):
    """Of rows, by their parameters' gradient through the public face."""
    backbone, sample = zoo.backbone(family), samples(family)[0]
    prompt = PromptTuning(length=5, init="vocab").build(backbone, seed=3)
    found = attribute(backbone, prompt, sample, way="gradient_x_input")
    ids, target = torch.tensor([sample.input.ids]), torch.tensor([sample.target])
    labels = target[0] if backbone.spec.kind == "encoder-only" else target
    if backbone.spec.kind == "decoder-only":
        labels = torch.cat([torch.full_like(ids, -100), target], dim=1)
        ids = torch.cat([ids, target], dim=1)
    (-Prompted(backbone, {"p": prompt})(ids, prompts="p", labels=labels).losses.sum()).backward()
    (rows,) = prompt.parameters()
    assert found.rows == pytest.approx((rows * rows.grad).sum(-1).tolist(), abs=1e-4)


def test_tokens_of_the_input_by_hand():
    """GPT-2 with a prompt behind its input, as plain embeddings through the stock model."""
    backbone, sample = zoo.backbone("gpt2"), samples("gpt2")[0]
    prompt, stock = made("gpt2", "behind"), zoo.stock("gpt2")
    table = stock.get_input_embeddings().weight
    tokens = table[sample.input.ids].detach().requires_grad_()
    rows = prompt().rows.detach()
    said = table[list(sample.target)].detach()
    logits = stock(inputs_embeds=torch.cat([tokens, rows, said])[None]).logits[0].log_softmax(-1)
    first = len(sample.input.ids) + 3 - 1
    total = sum(logits[first + place, token] for place, token in enumerate(sample.target))
    total.backward()
    found = attribute(backbone, prompt, sample, way="gradient_x_input")
    assert found.log_probability == pytest.approx(float(total.detach()), abs=1e-4)
    assert found.tokens == pytest.approx((tokens * tokens.grad).sum(-1).detach().tolist(), abs=1e-4)
    with torch.no_grad():
        mean = table.mean(0)
        blank = torch.cat([mean.expand(len(tokens) + 3, -1), said])[None]
        logits = stock(inputs_embeds=blank).logits[0].log_softmax(-1)
        start = sum(float(logits[first + place, token]) for place, token in enumerate(sample.target))
    assert found.baseline == pytest.approx(start, abs=1e-4)


def test_the_head_that_a_prompt_brings_is_the_one_that_predicts():
    backbone, sample = zoo.backbone("bert"), samples("bert")[0]
    prompt = PromptTuning(length=2, init="vocab", head=True).build(backbone, seed=1)
    found = attribute(backbone, prompt, sample)
    out = Prompted(backbone, {"p": prompt})(
        torch.tensor([sample.input.ids]), prompts="p", labels=torch.tensor(sample.target)
    )
    assert found.log_probability == pytest.approx(-float(out.loss.detach()), abs=1e-5)
    assert abs(found.gap) < 1e-3


def test_what_cannot_be_divided_up():
    backbone, prompt = zoo.backbone("gpt2"), made("gpt2", "rows")
    with pytest.raises(DataError, match="the sample has none; give it a target"):
        attribute(backbone, prompt, Sample(input=EncodedInput([5])))
    with pytest.raises(ConfigError, match="steps=0: expected at least 1"):
        attribute(backbone, prompt, samples("gpt2")[0], steps=0)
    bert = zoo.backbone("bert")
    form = TextFormat(input="{text}", target="{answer}", context="text")
    spans = PromptTuning(length=2, init="vocab", head=True).build(bert, form)
    with pytest.raises(UnsupportedError, match="says something of each token"):
        attribute(bert, spans, samples("bert")[0])
