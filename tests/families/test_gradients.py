"""Losses and gradients: those of the concatenation on the stock model, wherever they are computed."""

from __future__ import annotations

import dataclasses
import functools
import threading

import pytest
import torch
from tests.families import batches, naive, zoo
from tests.families.batches import Batch, relative_error
from tests.families.zoo import FAMILIES, Family
from torch import Tensor

from softprompt.backbones import Backbone
from softprompt.conditioning import Output, Prompted, splitting
from softprompt.prompts import SoftPrompt

EXACT = 1e-5

every_family = pytest.mark.parametrize("family", FAMILIES, ids=str)
Gradients = dict[str, Tensor]


def labelled(model: Prompted, family: Family, batch: Batch, side: batches.Side = "right", **options) -> Output:
    ids, mask = batch.padded(side)
    labels = {"decoder-only": lambda: batch.labels(side), "encoder-decoder": batch.target_labels}.get(
        family.kind, lambda: batch.classes
    )()
    return model(input_ids=ids, attention_mask=mask, prompts=batch.names, marks=batch.marks, labels=labels, **options)


def gradients(prompts: dict[str, SoftPrompt]) -> Gradients:
    return {
        f"{prompt} {name}": parameter.grad
        for prompt, soft in prompts.items()
        for name, parameter in soft.named_parameters()
        if parameter.grad is not None
    }


def step(family: Family, side: batches.Side = "right", **options) -> tuple[Output, dict[str, SoftPrompt]]:
    """The loss of a mixed batch, before its backward pass."""
    prompts = batches.prompts(family)
    batch = batches.batch(list(prompts))
    return labelled(Prompted(zoo.backbone(family.name), prompts, **options), family, batch, side), prompts


@functools.cache
def reference(name: str) -> tuple[Tensor, Gradients]:
    """Loss and gradients, row by row on the stock model."""
    family = zoo.BY_NAME[name]
    prompts = batches.prompts(family)
    batch = batches.batch(list(prompts))
    rows = [prompts.get(row) for row in batch.names]
    if family.kind == "decoder-only":
        made = naive.batch_logits(family, batch.rows, rows, inputs=batch.inputs, marks=batch.marks)
        predicted, labels = [row[:-1] for row in made], [row.clone() for row in batch.rows]
        for row, inputs in zip(labels, batch.inputs, strict=True):
            row[:inputs] = naive.IGNORED
        labels = [row[1:] for row in labels]
    elif family.kind == "encoder-decoder":
        predicted = naive.batch_logits(family, batch.rows, rows, marks=batch.marks, targets=batch.reads())
        labels = batch.targets
    else:
        predicted = [row[None] for row in naive.batch_logits(family, batch.rows, rows, marks=batch.marks)]
        labels = list(batch.classes[:, None])
    loss = naive.loss(predicted, labels)
    loss.backward()
    return loss.detach(), gradients(prompts)


def largest_error(got: Gradients, want: Gradients) -> float:
    assert got.keys() == want.keys()
    return max(((got[name] - want[name]).norm() / want[name].norm()).item() for name in want)


@every_family
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("conditioning", ["auto", "concatenation"])
def test_loss_and_gradients_are_those_of_the_stock_model(family, conditioning, side):
    output, prompts = step(family, side, conditioning=conditioning)
    output.loss.backward()
    loss, want = reference(family.name)
    assert relative_error(output.loss, loss) <= EXACT
    assert largest_error(gradients(prompts), want) <= EXACT


def apart(family: Family) -> bool:
    """Whether the probe found that its texts can be read in parts."""
    return splitting.divides(zoo.backbone(family.name))


@pytest.mark.parametrize("family", zoo.of_kind("decoder-only"), ids=str)
@pytest.mark.parametrize("side", ["left", "right"])
def test_what_stands_before_every_prompt_needs_no_gradient(family, side, monkeypatch):
    """It is computed apart, and all comes out as it does in one pass, which the stock model's results above prove."""
    found, calls = [], []
    read = splitting.read_in_two_parts
    monkeypatch.setattr(splitting, "read_in_two_parts", lambda *given: calls.append(1) or read(*given))
    for least in (10**6, 1):
        monkeypatch.setattr(splitting, "start_cost", lambda device, least=least: least)
        behind = {name: p for name, p in batches.prompts(family).items() if p.placement in ("append", "middle")}
        assert behind
        batch = batches.batch([*behind, *behind, *behind])
        kept = [i for i, row in enumerate(batch.rows) if len(row) >= 4]
        batch = dataclasses.replace(
            batch,
            names=[batch.names[i] for i in kept],
            rows=[batch.rows[i] for i in kept],
            inputs=[batch.inputs[i] for i in kept],
            marks=batch.marks[kept],
        )
        output = labelled(Prompted(zoo.backbone(family.name), behind), family, batch, side)
        output.loss.backward()
        assert len(calls) == (least == 1 and apart(family))
        found.append((output.losses.detach(), gradients(behind)))
    (losses, gradient), (losses_apart, gradient_apart) = found
    assert relative_error(losses_apart, losses) <= EXACT
    assert largest_error(gradient_apart, gradient) <= EXACT


@pytest.mark.parametrize("family", zoo.of_kind("decoder-only"), ids=str)
def test_what_stands_before_prompts_needs_no_gradient_where_candidates_are_scored(family, monkeypatch):
    """But where a window is narrower than all candidates side by side."""
    found, calls = [], []
    read = splitting.read_in_two_parts
    monkeypatch.setattr(splitting, "read_in_two_parts", lambda *given: calls.append(1) or read(*given))
    ids = torch.tensor([[7, 9, 11, 8, 6, 10], [12, 6, 9, 37, 37, 37], [5, 6, 37, 37, 37, 37]])
    candidates = [[8, 9, 7], [10, 6], [11, 12, 13, 9]]
    everyone = batches.prompts(family)
    for name in ("behind", "infix"):
        for least in (10**6, 1):
            monkeypatch.setattr(splitting, "start_cost", lambda device, least=least: least)
            if name not in everyone:  # a family without prefixes
                continue
            prompts = {name: everyone[name]}
            everyone[name].zero_grad(set_to_none=True)
            scores = Prompted(zoo.backbone(family.name), prompts).score_ids(ids, ids != 37, [candidates] * 3)
            scores[:, 0].sum().backward()
            found.append((scores.detach(), {key: grad.clone() for key, grad in gradients(prompts).items()}))
    assert len(calls) == (apart(family) and not family.window) * len(found) // 2
    for (scores, gradient), (scores_apart, gradient_apart) in zip(found[::2], found[1::2], strict=True):
        assert relative_error(scores_apart, scores) <= EXACT
        assert largest_error(gradient_apart, gradient) <= EXACT


@pytest.mark.parametrize("name", ["behind", "infix"])
def test_columns_that_are_padding_in_every_row_change_nothing(name, monkeypatch):
    monkeypatch.setattr(splitting, "start_cost", lambda device: 1)
    family = zoo.BY_NAME["gpt2"]
    model = Prompted(zoo.backbone(family.name), {name: batches.prompts(family)[name]})
    ids = torch.tensor([[7, 9, 11, 8], [12, 6, 9, 10]])
    wide, mask = torch.nn.functional.pad(ids, (3, 9)), torch.nn.functional.pad(torch.ones_like(ids), (3, 9))
    candidates = [[[8, 9, 7], [10, 6]]] * 2
    assert relative_error(model.score_ids(wide, mask, candidates), model.score_ids(ids, ids > 0, candidates)) <= EXACT


def test_labels_before_a_prompt_are_predicted(monkeypatch):
    """As those of a language model's loss are, over a text in which the prompt stands."""
    family = zoo.BY_NAME["gpt2"]
    prompts = {"inside": batches.prompts(family)["inside"]}
    ids, losses = torch.arange(5, 13)[None], []
    for least in (10**6, 1):
        monkeypatch.setattr(splitting, "start_cost", lambda device, least=least: least)
        labels = ids.where(torch.arange(8) >= 3, -100)
        output = Prompted(zoo.backbone(family.name), prompts)(ids, labels=labels, marks=torch.tensor([[6]]))
        assert len(output.losses) == 5
        losses.append(output.loss.detach())
    assert relative_error(losses[1], losses[0]) <= EXACT


@pytest.mark.parametrize("family", zoo.of_kind("decoder-only"), ids=str)
def test_inputs_that_stand_before_their_prompts_are_read_once(family, monkeypatch):
    monkeypatch.setattr(splitting, "start_cost", lambda device: 1)
    backbone = zoo.backbone(family.name)
    prompts = {"behind": batches.prompts(family)["behind"]}
    ids = torch.tensor([[7, 9, 11, 8, 6, 10], [12, 6, 9, 5, 5, 37], [5, 6, 5, 37, 37, 37]])
    labels = torch.tensor([[-100, -100, -100, 8, 6, 10], [-100, -100, -100, -100, 5, -100], [-100, -100, 5, 0, 0, 0]])
    labels[2, 3:] = -100
    calls = []
    call = type(backbone).call
    monkeypatch.setattr(type(backbone), "call", lambda *given, **inputs: calls.append(1) or call(*given, **inputs))

    def learn(model: Prompted, rows: list[int]) -> tuple[Tensor, Gradients, int]:
        calls.clear()
        prompts["behind"].zero_grad(set_to_none=True)
        output = model(ids[rows], ids[rows] != 37, labels=labels[rows])
        output.loss.backward()
        return output.loss.detach(), {name: grad.clone() for name, grad in gradients(prompts).items()}, len(calls)

    kept, plain = Prompted(backbone, prompts, input_cache_bytes=10**6), Prompted(backbone, prompts)
    assert learn(kept, [0, 1, 2])[2] == (2 if apart(family) else 1)
    for rows in ([0, 1, 2], [2, 0], [1]):  # in other company, and padded otherwise
        loss, gradient, passes = learn(kept, rows)
        want, want_gradient, _ = learn(plain, rows)
        assert passes == (2 if apart(family) and family.window else 1)
        assert relative_error(loss, want) <= EXACT
        assert largest_error(gradient, want_gradient) <= EXACT
    small = Prompted(backbone, prompts, input_cache_bytes=1)
    assert [learn(small, [0])[2] for _ in range(2)] == [2, 2] or not apart(family)
    half = Prompted(backbone, prompts, input_cache_bytes=kept._inputs.held_bytes // 2 or 1)  # enough for the first
    for rows in ([0], [0, 1, 2], [2, 0, 0, 1], [1, 2]):
        (loss, gradient, _), (want, want_gradient, _) = learn(half, rows), learn(plain, rows)
        assert relative_error(loss, want) <= EXACT
        assert largest_error(gradient, want_gradient) <= EXACT
    assert len(half._inputs._known) == (apart(family) and not family.window)


@every_family
def test_gradients_reach_every_value_of_every_prompt_and_nothing_of_the_backbone(family):
    output, prompts = step(family)
    output.loss.backward()
    found = gradients(prompts)
    assert len(found) == sum(len(list(prompt.parameters())) for prompt in prompts.values())
    for name, value in found.items():
        if family.window and "keys_values" in name:  # what no labelled token's window reaches has no gradient
            assert (value == 0).equal(reference(family.name)[1][name] == 0), name
            assert value.any(), name
        elif ".mlp." in name and name.startswith("encoded"):  # behind a ReLU some have none
            assert value.any(), name
        else:
            assert value.all(), name
    parameters = list(zoo.backbone(family.name).model.parameters())
    assert not any(parameter.requires_grad for parameter in parameters)
    assert all(parameter.grad is None for parameter in parameters)


@every_family
@pytest.mark.parametrize("thread", ["same", "another"])
def test_gradient_checkpointing_changes_nothing(family, thread):
    plain, plain_prompts = step(family)
    plain.loss.backward()
    output, prompts = step(family, gradient_checkpointing=True)
    assert output.loss.equal(plain.loss)
    if thread == "same":
        output.loss.backward()
    else:
        other = threading.Thread(target=output.loss.backward)
        other.start()
        other.join()
    assert largest_error(gradients(prompts), gradients(plain_prompts)) <= 1e-6


@every_family
def test_gradient_checkpointing_recomputes_and_leaves_the_model_as_it_was(family):
    """The layers hold nothing for the backward pass but their inputs, and run a second time in it."""
    backbone = zoo.backbone(family.name)
    before = [dict(vars(module)) for module in backbone.model.modules()]
    runs = {"forward": 0, "backward": 0}
    phase = ["forward"]

    def count(*_) -> None:
        runs[phase[0]] += 1

    norms = [module for module in backbone.model.modules() if type(module).__name__.endswith("Norm")]
    hooks = [norm.register_forward_pre_hook(count) for norm in norms]
    try:
        output, _ = step(family, gradient_checkpointing=True)
        phase[0] = "backward"
        output.loss.backward()
    finally:
        for hook in hooks:
            hook.remove()
    assert runs["backward"] > runs["forward"] / 2
    assert [dict(vars(module)) for module in backbone.model.modules()] == before


@every_family
@pytest.mark.parametrize("checkpointing", [False, True])
def test_dropout_stays_off(family, checkpointing):
    """Zoo models have dropout; a backbone made from one in training mode has none, recomputed layers included."""
    backbone = zoo.fresh(family.name)
    assert Backbone.from_model(backbone.model.train(), name="again").model.training is False
    losses = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        output, prompts = step(family, gradient_checkpointing=checkpointing)
        output.loss.backward()
        total = sum(gradient.double().sum() for gradient in gradients(prompts).values())
        losses.add((output.loss.item(), float(total)))
    assert len(losses) == 1


@every_family
def test_logits_beside_a_loss_are_those_without_labels(family):
    prompts = batches.prompts(family)
    batch = batches.batch([name for name in prompts if prompts[name].placement == "prepend"])
    model = Prompted(zoo.backbone(family.name), prompts)
    with torch.no_grad():
        output = labelled(model, family, batch, return_logits=True)
        ids, mask = batch.padded()
        reads = {}
        if family.kind == "encoder-decoder":
            reads["decoder_input_ids"] = batches.pad(batch.reads(), "right", fill=zoo.PAD)[0]
        want = model(input_ids=ids, attention_mask=mask, prompts=batch.names, marks=batch.marks, **reads)
        lone = labelled(model, family, batch)
    shapes = {"decoder-only": (*ids.shape, zoo.VOCAB), "encoder-only": (len(ids), zoo.CLASSES)}
    assert output.logits.shape == shapes.get(family.kind, (len(ids), batch.target_labels().shape[1], zoo.VOCAB))
    assert want.loss is None
    assert (lone.logits is None) == (family.kind != "encoder-only")
    assert relative_error(lone.loss, output.loss) <= 1e-6
    if family.kind == "encoder-decoder":
        real = batch.target_labels() != naive.IGNORED
        assert relative_error(output.logits[real], want.logits[real]) <= 1e-6
    else:
        assert relative_error(output.logits, want.logits) <= 1e-6


@every_family
def test_losses_are_told_by_row(family):
    output, _ = step(family)
    batch = batches.batch(list(batches.prompts(family)))
    counts = {
        "decoder-only": [len(row) - inputs for row, inputs in zip(batch.rows, batch.inputs, strict=True)],
        "encoder-decoder": [len(target) for target in batch.targets],
    }.get(family.kind, [1] * len(batch.rows))
    assert output.rows.bincount(minlength=len(counts)).tolist() == counts
    assert output.losses.mean().allclose(output.loss)
