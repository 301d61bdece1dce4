"""Leaving out rows, layers and heads."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.families import zoo
from tests.inspection.prompts import FAMILIES, made, samples
from tests.models import tiny_backbone

import softprompt as sp
from softprompt.backbones import attention
from softprompt.conditioning import Prompted
from softprompt.conditioning.collection import PromptCollection
from softprompt.errors import ConfigError, DataError, ShapeError, UnsupportedError
from softprompt.inspection import importance, leave_out, task_samples
from softprompt.inspection.samples import Asked, collate, read
from softprompt.inspection.variants import without_row
from softprompt.prompts import PrefixTuning, PromptTuning, SoftPrompt
from softprompt.prompts.parameters import DirectPrefix, DirectRows


def loss(family: str, prompt: SoftPrompt | None) -> float:
    """Nats per token, each sample by itself through the public face."""
    backbone, total, tokens = zoo.backbone(family), 0.0, 0
    model = Prompted(backbone, {} if prompt is None else {"p": prompt})
    for sample in samples(family):
        name = [None if prompt is None else "p"]
        ids, target = torch.tensor([sample.input.ids]), torch.tensor([sample.target])
        with torch.no_grad():
            if backbone.spec.kind == "decoder-only":
                labels = torch.cat([torch.full_like(ids, -100), target], dim=1)
                out = model(torch.cat([ids, target], dim=1), prompts=name, labels=labels)
            else:
                labels = target[0] if backbone.spec.kind == "encoder-only" else target
                out = model(ids, prompts=name, labels=labels)
        total += float(out.losses.sum())
        tokens += len(sample.target)
    return total / tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_row_is_another_prompt_of_the_other_rows(family):
    backbone = zoo.backbone(family)
    for method in ("rows", "prefix"):
        prompt = made(family, method)
        found = leave_out(backbone, prompt, samples(family), parts=["rows"])
        assert found.loss == pytest.approx(loss(family, prompt), abs=1e-5)
        assert [one.row for one in found.left_out] == list(range(prompt.length))
        kept = [0, 2, 3, 4][: prompt.length - 1]
        tensors = prompt()
        if method == "rows":
            other = SoftPrompt(
                DirectRows(tensors.rows.detach()[kept]), PromptTuning(length=4, init="vocab"), prompt.info
            )
        else:
            stacks = {stack: value.detach()[:, :, :, kept] for stack, value in tensors.keys_values.items()}
            other = SoftPrompt(DirectPrefix(stacks), PrefixTuning(length=3, hidden=None), prompt.info)
        assert found.left_out[1].loss == pytest.approx(loss(family, other), abs=1e-5)
        assert found.left_out[1].loss_change == pytest.approx(loss(family, other) - found.loss, abs=1e-5)
        assert abs(found.left_out[1].loss_change) > 1e-3


def test_the_only_row_leaves_the_bare_backbone():
    prompt = PromptTuning(length=1, init="vocab").build(zoo.backbone("t5"))
    found = leave_out(zoo.backbone("t5"), prompt, samples("t5"), parts=["rows"])
    assert found.left_out[0].loss == pytest.approx(loss("t5", None), abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_without_a_layer_gives_that_layer_nothing(family):
    """The layer's keys and values are dropped before the pass, instead of hidden in it."""
    backbone, prompt = zoo.backbone(family), made(family, "prefix")
    found = leave_out(backbone, prompt, samples(family), parts=["layers"])
    assert [(one.stack, one.layer) for one in found.left_out] == [tuple(site) for site in backbone.sites.values()]
    prompts = PromptCollection(backbone, "auto")
    prompts.add("p", prompt)
    batch = collate(backbone, [Asked(input=one.input, target=one.target) for one in samples(family)])
    for one in found.left_out:
        with torch.no_grad():
            (applied,) = prompts.applied(["p"], checkpointing=False)
            kept = {site: pair for site, pair in applied.keys_values.items() if site != (one.stack, one.layer)}
            output = read(backbone, [replace(applied, keys_values=kept)], batch)
        assert one.loss == pytest.approx(float(output.loss), abs=1e-5)
        assert abs(one.loss_change) > 1e-5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["rows", "prefix"])
def test_without_any_head_is_without_the_layer(family, method, monkeypatch):
    """Heads are hidden one by one; hidden all together they are the layer. Each alone does something of its own."""
    backbone, prompt = zoo.backbone(family), made(family, method)
    found = leave_out(backbone, prompt, samples(family), parts=["layers", "heads"])
    heads = [one for one in found.left_out if one.head is not None]
    layers = [one for one in found.left_out if one.head is None]
    assert len(heads) == 4 * len(layers)
    assert len({round(one.loss, 6) for one in heads}) > len(heads) * 0.6
    real = importance._blinders

    def all_heads(backbone, variants, views):
        doubled = [importance._Variant(v.prompt, v.site, None) for v in variants]
        return real(backbone, doubled, views)

    monkeypatch.setattr(importance, "_blinders", all_heads)
    again = leave_out(backbone, prompt, samples(family), parts=["heads"])
    for one in again.left_out:
        (layer,) = [other for other in layers if (other.stack, other.layer) == (one.stack, one.layer)]
        assert one.loss == pytest.approx(layer.loss, abs=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_layers_of_rows_are_the_same_in_both_passes(family, monkeypatch):
    backbone, prompt = zoo.backbone(family), made(family, "rows")
    shared = leave_out(backbone, prompt, samples(family), parts=["layers", "heads"])
    real = importance.PromptCollection
    monkeypatch.setattr(importance, "PromptCollection", lambda backbone, _: real(backbone, "concatenation"))
    joined = leave_out(backbone, prompt, samples(family), parts=["layers", "heads"])
    for one, other in zip(shared.left_out, joined.left_out, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-5)


@pytest.mark.parametrize("kind", ["decoder-only", "encoder-decoder", "encoder-only"])
def test_metrics_are_those_of_an_evaluation(kind):
    backbone = tiny_backbone(kind)
    rows = [
        {"text": f"the {a} was {b}", "label": str(c)} for a in ("film", "book") for b, c in (("good", 1), ("bad", 0))
    ]
    task = sp.Task.from_rows(
        {"train": rows, "validation": rows}, input="{text}", target="{label}", label_words={"0": "bad", "1": "good"}
    )
    prompt = PromptTuning(length=3, init="vocab").build(backbone, seed=2)
    found = leave_out(backbone, prompt, task_samples(backbone, prompt, task), task, parts=["rows"])
    assert found.metrics == pytest.approx(dict(sp.evaluate(backbone, prompt, task, by="rank")))
    for row, one in enumerate(found.left_out):
        scores = dict(sp.evaluate(backbone, without_row(prompt, row), task, by="rank"))
        assert one.metrics == pytest.approx(scores)
        assert one.metric_changes == pytest.approx({name: scores[name] - found.metrics[name] for name in scores})


def test_samples_of_another_task_are_refused():
    backbone = tiny_backbone("decoder-only")
    rows = [{"text": "the film", "label": "0"}]
    form = {"input": "{text}", "target": "{label}"}
    two = sp.Task.from_rows({"validation": rows}, **form, label_words={"0": "bad", "1": "good"})
    three = two.with_format(label_words={"0": "bad", "1": "good", "2": "so"})
    prompt = PromptTuning(length=2, init="vocab").build(backbone)
    with pytest.raises(ConfigError, match="The samples have other labels than"):
        leave_out(backbone, prompt, task_samples(backbone, prompt, two), three, parts=["rows"])


def test_a_layer_without_mask_says_so():
    with pytest.raises(UnsupportedError, match=r"Identity takes no mask .* leave out rows of the prompt instead"):
        attention._hidden_from(lambda module, mask, heads: mask, torch.nn.Identity(), None, 4)


def test_what_cannot_be_left_out():
    prompt = made("gpt2", "rows")
    with pytest.raises(ShapeError, match="A prompt of 5 rows has no row 5; give one from 0 to 4"):
        without_row(prompt, 5)
    divided = PromptTuning(length=3, init="vocab", placement="template", segments=(2, 1)).build(zoo.backbone("gpt2"))
    assert without_row(divided, 1).segments == (1, 1)
    with pytest.raises(UnsupportedError, match="Row 2 stands alone in place 1 of the template"):
        without_row(divided, 2)
    headed = PromptTuning(length=1, init="vocab", head=True).build(zoo.backbone("bert"))
    with pytest.raises(UnsupportedError, match="its head would go with it"):
        without_row(headed, 0)
    with pytest.raises(DataError, match="on rows with targets; give at least one"):
        leave_out(zoo.backbone("gpt2"), prompt, [])
