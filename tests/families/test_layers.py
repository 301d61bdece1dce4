"""Prefixes that only some layers are given, against attention that is written out."""

from __future__ import annotations

import pytest
import torch
from tests.families import batches, naive, zoo
from tests.families.batches import relative_error

from softprompt.conditioning import Prompted
from softprompt.prompts import PrefixTuning, SoftPrompt

METHODS = {
    "first": PrefixTuning(length=3, hidden=None, layers=(0,)),
    "last": PrefixTuning(length=5, hidden=8, layers=(-1,)),
    "every": PrefixTuning(length=2, hidden=None),
}
FAMILIES = [zoo.BY_NAME[name] for name in ("gpt2", "llama", "t5", "bart", "bert")]


def prompts(family: zoo.Family) -> dict[str, SoftPrompt]:
    made = {name: method.build(zoo.backbone(family.name), seed=1) for name, method in METHODS.items()}
    with torch.no_grad():
        for prompt in made.values():
            for parameter in prompt.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return made


def both(
    family: zoo.Family, made: dict[str, SoftPrompt]
) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Logits of a mixed batch; and each row's, with those of the reference."""
    batch = batches.batch(list(made))
    ids, mask = batch.padded()
    reads = {}
    if family.kind == "encoder-decoder":
        reads["decoder_input_ids"] = batches.pad(batch.reads(), "right", fill=zoo.PAD)[0]
    got = Prompted(zoo.backbone(family.name), made)(
        input_ids=ids, attention_mask=mask, prompts=batch.names, **reads
    ).logits
    pairs = []
    for i, name in enumerate(batch.names):
        target = batch.reads()[i] if family.kind == "encoder-decoder" else None
        want = naive.with_layers(family, batch.rows[i], made.get(name), target=target)
        pairs.append((got[i] if family.kind == "encoder-only" else got[i, : len(want)], want))
    return got, pairs


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_only_the_chosen_layers_read_a_prefix(family):
    with torch.no_grad():
        got, pairs = both(family, prompts(family))
    for mine, want in pairs:
        assert relative_error(mine, want, got) <= 1e-5


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_gradients_of_the_chosen_layers_are_the_references(family):
    made = prompts(family)
    parameters = {f"{prompt} {name}": p for prompt, one in made.items() for name, p in one.named_parameters()}
    sums = [torch.zeros(()), torch.zeros(())]
    for number, pair in enumerate(both(family, made)[1]):
        weights = torch.randn(pair[0].shape, generator=torch.Generator().manual_seed(number))
        sums = [total + (one * weights).sum() for total, one in zip(sums, pair, strict=True)]
    ours, theirs = (torch.autograd.grad(total, list(parameters.values())) for total in sums)
    for name, mine, want in zip(parameters, ours, theirs, strict=True):
        assert want.abs().max() > 0, name
        assert relative_error(mine, want) <= 1e-4, name


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_a_stored_prefix_of_some_layers_is_the_same(family, tmp_path):
    prompt = prompts(family)["last"]
    loaded = SoftPrompt.load(prompt.save(tmp_path / "p"))
    assert loaded.layers == (-1,)
    options = {"input_ids": torch.tensor([[5, 6, 7]])}
    if family.kind == "encoder-decoder":
        options["decoder_input_ids"] = torch.tensor([[0, 8]])
    with torch.no_grad():
        want, got = (Prompted(zoo.backbone(family.name), {"a": one})(**options).logits for one in (prompt, loaded))
    assert got.equal(want)
