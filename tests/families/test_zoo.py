"""The zoo can tell right from wrong: each mistake that the other tests look for would be seen in it."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.families import batches, naive, zoo
from tests.families.batches import relative_error
from tests.families.zoo import FAMILIES, Family
from torch import Tensor

from softprompt.prompts import PromptTensors

SEEN = 1e-3
"""A hundred times what `test_forward` lets pass."""

every_family = pytest.mark.parametrize("family", FAMILIES, ids=str)


def predicted(family: Family, ids: Tensor, prompt=None, **options) -> Tensor:
    target = torch.tensor([zoo.PAD, 11, 12]) if family.kind == "encoder-decoder" else None
    return naive.logits(family, ids, prompt, target=target, **options).detach()


def ids(length: int = 12) -> Tensor:
    return torch.arange(5, 5 + 7 * length, 7) % (zoo.VOCAB - 4) + 4


@every_family
def test_the_order_of_tokens_matters(family):
    swapped = ids()
    swapped[[7, 8]] = swapped[[8, 7]]
    assert relative_error(predicted(family, swapped)[-1], predicted(family, ids())[-1]) > SEEN


@every_family
@pytest.mark.parametrize("name", ["short", "longer than the window", "prefix", "longer prefix"])
def test_each_virtual_token_matters(family, name):
    prompt = batches.prompts(family).get(name)
    if prompt is None:
        assert not family.prefix
        return
    want = predicted(family, ids(4), prompt)
    weakest = 1.0
    out_of_sight = prompt.length + 1 - zoo.WINDOW if family.window and prompt().keys_values else 0
    for parameter in prompt.parameters():
        for index in range(max(out_of_sight, 0), prompt.length):
            before = parameter.detach().clone()
            with torch.no_grad():
                virtual = parameter[index] if parameter.ndim == 2 else parameter[:, :, :, index]
                virtual.neg_()
                weakest = min(weakest, relative_error(predicted(family, ids(4), prompt), want))
                parameter.copy_(before)
    assert weakest > SEEN


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.shared], ids=str)
def test_a_gap_between_prompt_and_input_would_be_seen(family):
    """The prompt's own positions and the input's are one too far apart: what counting from the wrong place gives."""
    model, row = zoo.stock(family.name), ids(6)
    embedded = model.get_input_embeddings()(row)
    rows = batches.prompts(family)["short"]().rows
    joined = torch.cat([rows, embedded])[None]
    right = torch.arange(joined.shape[1])[None]
    wrong = right + (right >= len(rows))
    want, got = (model(inputs_embeds=joined, position_ids=places).logits.detach() for places in (right, wrong))
    assert relative_error(got[0, -1], want[0, -1]) > SEEN


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.window], ids=str)
@pytest.mark.parametrize("other", [zoo.WINDOW - 1, zoo.WINDOW + 1])
def test_another_window_would_be_seen(family, other):
    config = copy.deepcopy(zoo.stock(family.name).config)
    config.sliding_window = other
    model = zoo.AUTO[family.kind].from_config(config).eval()
    model.load_state_dict(zoo.stock(family.name).state_dict())
    got = model(ids()[None]).logits[0, -1].detach()
    assert relative_error(got, predicted(family, ids())[-1]) > SEEN


@every_family
def test_dropout_is_configured_and_would_be_seen(family):
    model = copy.deepcopy(zoo.stock(family.name)).train()
    torch.manual_seed(0)
    reads = {"decoder_input_ids": torch.tensor([[zoo.PAD, 11, 12]])} if family.kind == "encoder-decoder" else {}
    got = model(ids()[None], **reads).logits[0].detach()
    assert relative_error(got, predicted(family, ids())) > SEEN


@every_family
def test_the_written_out_attention_is_the_models_own(family):
    if family.kind == "decoder-only":
        model, want = copy.deepcopy(zoo.stock(family.name)), predicted(family, ids())
        cached = naive._after_cache(model, ids(), torch.zeros(0, 2, 1, 0, 1), at=4)
        assert relative_error(cached, want) < 1e-5
        return
    reads = {"decoder_input_ids": torch.tensor([[zoo.PAD, 11, 12]])} if family.kind == "encoder-decoder" else {}
    got = naive._written_out(family.name)(ids()[None], PromptTensors().keys_values, **reads)
    assert relative_error(got, predicted(family, ids())) < 1e-5


@every_family
def test_a_model_is_the_same_in_every_run(family):
    first = zoo.fresh(family.name).fingerprint
    assert first == zoo.backbone(family.name).fingerprint
    zoo.stock.cache_clear()
    assert zoo.fresh(family.name).fingerprint == first
