"""Prompts are kept and shared: stored and loaded, in several threads at once, alone and beside others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tests.families import batches, zoo
from tests.families.batches import relative_error
from tests.families.zoo import FAMILIES, Family
from torch import Tensor

from softprompt.backbones import Fingerprint
from softprompt.conditioning import Prompted
from softprompt.errors import MismatchError
from softprompt.prompts import PromptTuning, SoftPrompt

every_family = pytest.mark.parametrize("family", FAMILIES, ids=str)


def outcome(model: Prompted, family: Family, names: list[str | None], side: batches.Side = "right") -> Tensor:
    batch = batches.batch(names)
    ids, mask = batch.padded(side)
    reads = {}
    if family.kind == "encoder-decoder":
        reads["decoder_input_ids"] = batches.pad(batch.reads(), "right", fill=zoo.PAD)[0]
    return model(input_ids=ids, attention_mask=mask, prompts=batch.names, marks=batch.marks, **reads).logits


def learn(model: Prompted, family: Family, name: str) -> tuple[float, list[Tensor]]:
    """Loss and gradients of one prompt's batch."""
    batch = batches.batch([name, name])
    ids, mask = batch.padded()
    labels = {"decoder-only": batch.labels(), "encoder-decoder": batch.target_labels()}.get(family.kind, batch.classes)
    output = model(input_ids=ids, attention_mask=mask, prompts=batch.names, marks=batch.marks, labels=labels)
    return output.loss.item(), list(torch.autograd.grad(output.loss, list(model.prompts[name].parameters())))


@every_family
def test_a_stored_prompt_gives_what_it_gave(family, tmp_path):
    prompts = batches.prompts(family)
    names = list(prompts)
    loaded = {name: SoftPrompt.load(prompt.save(tmp_path / name)) for name, prompt in prompts.items()}
    with torch.no_grad():
        want = outcome(Prompted(zoo.backbone(family.name), prompts), family, names)
        got = outcome(Prompted(zoo.backbone(family.name), loaded), family, names)
    for name, mine, theirs in zip(batches.batch(names).names, got, want, strict=True):
        if name == "encoded":  # an LSTM rounds otherwise where no gradient is wanted
            assert relative_error(mine, theirs) <= 1e-5
        else:
            assert mine.equal(theirs), name
    assert {name: prompt.num_parameters() for name, prompt in loaded.items()} == {
        name: prompt.num_parameters() for name, prompt in prompts.items()
    }
    assert all(prompt.num_trainable() == prompt.num_parameters() for prompt in loaded.values())


@every_family
def test_a_row_alone_is_the_row_in_a_batch(family):
    prompts = batches.prompts(family)
    model = Prompted(zoo.backbone(family.name), prompts)
    batch = batches.batch(list(prompts))
    ids, mask = batch.padded("left" if family.kind == "decoder-only" else "right")
    targets = batches.pad(batch.reads(), "right", fill=zoo.PAD)[0]
    with torch.no_grad():
        reads = {"decoder_input_ids": targets} if family.kind == "encoder-decoder" else {}
        together = model(input_ids=ids, attention_mask=mask, prompts=batch.names, marks=batch.marks, **reads).logits
        for i, (row, name) in enumerate(zip(batch.rows, batch.names, strict=True)):
            reads = {"decoder_input_ids": targets[i : i + 1]} if family.kind == "encoder-decoder" else {}
            lone = model(input_ids=row[None], prompts=[name], marks=batch.marks[i : i + 1], **reads).logits[0]
            assert relative_error(lone, together[i, -len(lone) :], together) <= 1e-5


@every_family
def test_threads_that_share_a_backbone_do_not_see_each_others_prompts(family):
    """One trains with checkpointing, one without, one scores; each gives what it gives by itself."""
    backbone = zoo.fresh(family.name)
    others = [name for name, prompt in batches.prompts(family).items() if prompt.placement == "prepend"][-2:]

    def trains(name: str, checkpointing: bool) -> tuple[float, list[Tensor]]:
        prompts = {name: batches.prompts(family)[name]}
        return learn(Prompted(backbone, prompts, gradient_checkpointing=checkpointing), family, name)

    def reads() -> tuple[float, list[Tensor]]:
        with torch.no_grad():
            prompts = batches.prompts(family)
            return 0.0, [outcome(Prompted(backbone, prompts), family, list(prompts))]

    jobs = [lambda: trains("short", True), lambda: trains(others[0], True), lambda: trains(others[1], False), reads]
    want = [job() for job in jobs]
    before = [dict(vars(module)) for module in backbone.model.modules()]
    with ThreadPoolExecutor(len(jobs)) as pool:
        for _ in range(3):
            found = [future.result() for future in [pool.submit(job) for job in jobs]]
            for (loss, tensors), (expected, others_tensors) in zip(found, want, strict=True):
                assert loss == expected
                assert all(mine.equal(theirs) for mine, theirs in zip(tensors, others_tensors, strict=True))
    assert [dict(vars(module)) for module in backbone.model.modules()] == before


@every_family
def test_a_prompt_of_another_model_is_refused(family):
    other = zoo.fresh(family.name)
    prompt = PromptTuning(length=2, init="vocab").build(other)
    with torch.no_grad():
        next(iter(other.model.parameters())).mul_(1.5)
    changed = zoo.Backbone.from_model(other.model, name="changed")
    made_for = Fingerprint.from_mapping(prompt.info.fingerprint)
    with pytest.raises(MismatchError, match="was made for") as caught:
        Prompted(changed, {"mine": prompt})
    for part in ("'mine'", other.name, made_for.short, "changed", changed.fingerprint.short):
        assert part in str(caught.value)
    assert Prompted(zoo.backbone(family.name), {"mine": prompt}).prompts["mine"] is prompt
