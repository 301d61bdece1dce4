"""What PEFT 0.21 was seen to get wrong, softprompt gets right; nothing is said of what PEFT does today."""

from __future__ import annotations

import math

import pytest
import torch
from tests.parity import tiny

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.prompts import PrefixTuning, PromptTuning

METHODS = {
    "prompt": PromptTuning(length=4, init="random"),
    "prefix": PrefixTuning(length=4, hidden=None),
}


def prompted(build, method):
    backbone = Backbone.from_model(tiny.make(build))
    prompt = method.build(backbone, seed=6)
    with torch.no_grad():
        for parameter in prompt.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(7))
    return Prompted(backbone, {"prompt": prompt})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("build", [tiny.gpt2, tiny.llama], ids=["gpt2", "llama"])
def test_a_left_padded_row_scores_as_it_does_alone(build, method):
    """A prompt stands directly before its row's tokens, with no padding in between that positions would count."""
    model = prompted(build, METHODS[method])
    ids, mask = (value.flip(1) for value in tiny.batch())
    with torch.no_grad():
        together = model(ids, mask, prompts="prompt").logits
        for row in range(len(ids)):
            real = mask[row].bool()
            alone = model(ids[row : row + 1, real], prompts="prompt").logits[0]
            torch.testing.assert_close(together[row, real], alone, rtol=1e-4, atol=1e-5)


def test_scaled_embeddings_stay_scaled_beside_a_prompt():
    """Pegasus multiplies embedded tokens by sqrt(dim) when it is given ids; beside a prompt they keep that scale."""
    model = prompted(tiny.pegasus, METHODS["prompt"])
    ids, decoder = tiny.batch(rows=1)[0], tiny.targets(rows=1)
    with torch.no_grad():
        got = model(ids, prompts="prompt", decoder_input_ids=decoder).logits
        reference = tiny.make(tiny.pegasus)
        tokens = reference.get_input_embeddings()(ids) * math.sqrt(tiny.DIM)  # [batch, seq, dim]
        joined = torch.cat([model.prompts["prompt"]().rows[None], tokens], dim=1)
        want = reference(inputs_embeds=joined, decoder_input_ids=decoder).logits
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", [tiny.t5, tiny.bart], ids=["t5", "bart"])
def test_every_element_of_an_encoder_decoder_prefix_gets_a_gradient(build):
    """Encoder, cross-attention and decoder each have a prefix, and no layer's slot is mapped to another layer."""
    model = prompted(build, METHODS["prefix"])
    ids, mask = tiny.batch()
    model(ids, mask, prompts="prompt", labels=tiny.targets()).loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.prompts["prompt"].named_parameters()}
    assert {name.rsplit(".", 1)[1] for name in gradients} == {"encoder", "cross", "decoder"}
    for gradient in gradients.values():
        assert (gradient != 0).all()
