"""Loss, bits per byte and operations, against plain arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from softprompt.pretraining.architectures import SHAPES, build_model
from softprompt.pretraining.corpus import PackedTokens
from softprompt.pretraining.measure import batch_loss, flops_per_row, measure_held_out
from softprompt.pretraining.objectives import SpecialIds, causal_lm, prefix_lm

SPECIAL = SpecialIds(eos=1, sentinels=(799,))


@pytest.mark.parametrize("preset", ["t5-tiny", "gpt-tiny"])
def test_the_loss_is_transformers_own(preset: str) -> None:
    model = build_model(preset, vocab=800, max_length=32, seed=0)
    tokens = torch.randint(2, 800, (3, 11), generator=torch.Generator().manual_seed(0))
    inputs, targets = (tokens, tokens[:, :5].contiguous()) if preset == "t5-tiny" else (tokens[:, :-1], tokens[:, 1:])
    with torch.no_grad():
        expected = model(input_ids=tokens, labels=targets if preset == "t5-tiny" else tokens).loss
        assert batch_loss(model, "fp32")(inputs, targets).item() == pytest.approx(expected.item(), rel=1e-5)
        rounded = batch_loss(model, "bf16")(inputs, targets)
    assert rounded.dtype == torch.float32
    assert rounded.item() != expected.item()
    assert rounded.item() == pytest.approx(expected.item(), rel=0.02)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_held_out_text_is_measured_in_nats_and_bits(batch_size: int) -> None:
    """A guess that costs 2 nats per token costs 2 / ln 2 bits, spread over the bytes of the targets."""
    tokens = (np.arange(103) % 50 + 2).astype(np.uint16)
    text = PackedTokens(tokens=tokens, documents=1)
    bytes_of = np.arange(800) % 4
    seen: list[int] = []

    def two_nats(inputs: Tensor, targets: Tensor) -> Tensor:
        seen.extend(targets.flatten().tolist())
        return torch.tensor(2.0)

    result = measure_held_out(
        two_nats,
        text,
        causal_lm,
        SPECIAL,
        bytes_of=bytes_of,
        window=10,
        windows=5,
        batch_size=batch_size,
        device=torch.device("cpu"),
    )
    rows = tokens[:100].reshape(10, 10)[[0, 2, 4, 7, 9]]  # spread evenly from the first to the last
    assert seen == rows[:, 1:].ravel().tolist()
    assert result.tokens == 45
    assert result.loss == pytest.approx(2.0)
    assert result.bits_per_byte == pytest.approx(2.0 * 45 / math.log(2) / bytes_of[rows[:, 1:]].sum())


def test_every_measurement_is_of_the_same_targets() -> None:
    text = PackedTokens(tokens=np.arange(2, 402).astype(np.uint16), documents=1)
    seen: list[list[tuple[int, ...]]] = []
    for _ in range(2):
        shapes: list[tuple[int, ...]] = []

        def record(inputs: Tensor, targets: Tensor, shapes: list[tuple[int, ...]] = shapes) -> Tensor:
            shapes.append(tuple(targets.flatten().tolist()))
            return torch.tensor(1.0)

        measure_held_out(
            record,
            text,
            prefix_lm,
            SPECIAL,
            bytes_of=np.ones(800, dtype=np.int64),
            window=40,
            windows=99,
            batch_size=2,
            device=torch.device("cpu"),
        )
        seen.append(shapes)
    assert seen[0] == seen[1]
    assert len(seen[0]) == 5


def test_operations_are_counted_forward_and_backward() -> None:
    """Three passes over each matrix, two operations per weight and token, and attention over the whole row."""
    model, shape, tokens = build_model("gpt-tiny", vocab=800, max_length=64, seed=0), SHAPES["gpt-tiny"], 40
    counted = flops_per_row(model, batch_loss(model, "fp32"), inputs=tokens, targets=tokens)
    weights = shape.layers * (4 * shape.dim**2 + 3 * shape.dim * shape.hidden) + 800 * shape.dim
    attention = shape.layers * 2 * tokens * tokens * shape.dim
    assert counted == pytest.approx(3 * 2 * (weights * tokens + attention), rel=0.05)
    assert all(parameter.grad is None for parameter in model.parameters())
