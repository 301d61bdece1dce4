"""Trainable parameters and the tensors that they give."""

from __future__ import annotations

import pytest
import torch

from softprompt.prompts.parameters import (
    DirectPrefix,
    DirectRows,
    PromptTensors,
    ReparameterizedPrefix,
    ReparameterizedRows,
)


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


def encoded(encoder: str, rows: torch.Tensor | None = None) -> ReparameterizedRows:
    generator = torch.Generator().manual_seed(1)
    return ReparameterizedRows(rows, length=4, dim=6, encoder=encoder, hidden=5, generator=generator)


def test_a_prompt_encoder_is_an_lstm_read_both_ways_and_an_mlp():
    """Each layer, direction and gate, and the MLP, written out from the weights; of one layer it was not seen."""
    made = encoded("lstm")
    weights = {name: value.detach() for name, value in made.named_parameters()}
    gated = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ways = {"": range(4), "_reverse": range(3, -1, -1)}
    assert set(weights) == {
        "inputs",
        *(f"lstm.{name}_l{layer}{way}" for name in gated for layer in (0, 1) for way in ways),
        *(f"mlp.{layer}.{name}" for layer in (0, 2) for name in ("weight", "bias")),
    }
    found = weights["inputs"]
    for layer in (0, 1):
        directions = []
        for way, order in ways.items():
            to_gates, from_state, bias, other_bias = (weights[f"lstm.{name}_l{layer}{way}"] for name in gated)
            state, cell, states = torch.zeros(5), torch.zeros(5), {}
            for i in order:
                enter, forget, new, leave = (to_gates @ found[i] + bias + from_state @ state + other_bias).split(5)
                cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
                state = leave.sigmoid() * cell.tanh()
                states[i] = state
            directions.append(torch.stack([states[i] for i in range(4)]))
        found = torch.cat(directions, dim=1)
    inner = (found @ weights["mlp.0.weight"].T + weights["mlp.0.bias"]).relu()
    assert made().rows.allclose(inner @ weights["mlp.2.weight"].T + weights["mlp.2.bias"], atol=1e-6)


@pytest.mark.parametrize("encoder", ["lstm", "mlp"])
def test_an_encoders_start_is_met_exactly_and_can_be_left(encoder):
    rows = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    made = encoded(encoder, rows)
    assert made().rows.equal(rows)
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    for _ in range(2):  # at first the last layer alone learns: it begins at zero
        optimizer.zero_grad()
        made().rows.square().sum().backward()
        optimizer.step()
    assert not made().rows.allclose(rows)
    assert all(parameter.grad.any() for parameter in made.parameters())


def test_rows_are_kept_near_to_an_anchor():
    rows, anchor = torch.full((4, 6), 2.0), torch.zeros(4, 6)
    made = DirectRows(rows, anchor=anchor, weight=0.5)
    assert made.penalty().item() == 0.5 * 4 * 6
    made.penalty().backward()
    assert made.rows.grad.equal(torch.full((4, 6), 0.5 * 2 * 2.0 / 4))
    assert DirectRows(rows).penalty() is None
