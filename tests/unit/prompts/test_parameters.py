"""Trainable parameters and the tensors that they give."""

from __future__ import annotations

import pytest
import torch

from softprompt.prompts.parameters import DirectPrefix, DirectRows, PromptTensors, ReparameterizedPrefix


def start(layers: int = 3, heads: int = 2, length: int = 4, width: int = 5) -> torch.Tensor:
    return torch.randn(layers, 2, heads, length, width, generator=torch.Generator().manual_seed(0))


def reparameterized(*, from_start: bool) -> ReparameterizedPrefix:
    generator = torch.Generator().manual_seed(1)
    return ReparameterizedPrefix({"decoder": start()}, dim=6, hidden=7, from_start=from_start, generator=generator)


def test_masters_are_float32_copies():
    rows = torch.zeros(2, 3, dtype=torch.bfloat16)
    made = DirectRows(rows)
    assert made.rows.dtype == torch.float32
    with torch.no_grad():
        made.rows.add_(1)
    assert not rows.any()
    assert DirectPrefix({"decoder": start().half()})().keys_values["decoder"].dtype == torch.float32


def test_the_mlp_is_linear_tanh_linear():
    """Every layer, head and position, written out from the weights."""
    made = reparameterized(from_start=False)
    first, _, last = made.mlp["decoder"]
    got = made().keys_values["decoder"]
    for position, row in enumerate(made.rows["decoder"]):
        inner = torch.tanh(first.weight @ row + first.bias)
        flat = last.weight @ inner + last.bias
        at = 0
        for layer in range(3):
            for kind in range(2):
                for head in range(2):
                    assert got[layer, kind, head, position].allclose(flat[at : at + 5], atol=1e-6)
                    at += 5


def test_a_start_is_met_exactly_and_can_be_left():
    made = reparameterized(from_start=True)
    assert made().keys_values["decoder"].equal(start())
    made().keys_values["decoder"].square().sum().backward()
    last = made.mlp["decoder"][2]
    assert last.weight.grad.any()
    assert last.bias.grad.all()
    with torch.no_grad():
        last.weight.sub_(0.1 * last.weight.grad)
    assert not made().keys_values["decoder"].allclose(start())


def test_a_start_is_no_parameter():
    assert set(dict(reparameterized(from_start=True).named_parameters())) == {
        "rows.decoder", "mlp.decoder.0.weight", "mlp.decoder.0.bias", "mlp.decoder.2.weight", "mlp.decoder.2.bias",
    }  # fmt: skip


@pytest.mark.parametrize(
    "tensors",
    [PromptTensors(rows=torch.zeros(3, 2)), PromptTensors(keys_values={"encoder": start(), "cross": start()})],
)
def test_names_lead_back(tensors):
    again = PromptTensors.from_named(tensors.named())
    assert again.named().keys() == tensors.named().keys()
    assert all(again.named()[name] is value for name, value in tensors.named().items())


def test_lengths():
    assert PromptTensors(rows=torch.zeros(3, 2)).length == 3
    assert PromptTensors(keys_values={"decoder": start(length=6)}).length == 6
