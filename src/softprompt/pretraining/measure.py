"""Loss of a model on a batch, on held-out text in nats and bits, and the arithmetic that a step costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from softprompt.pretraining.corpus import PackedTokens
from softprompt.pretraining.objectives import Objective, SpecialIds

__all__ = ["HeldOut", "LossFunction", "batch_loss", "flops_per_row", "measure_held_out"]

LossFunction = Callable[[Tensor, Tensor], Tensor]
# Held-out rows are the same at every measurement and for every seed of the training.
_HELD_OUT_SEED = 0


@final
@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """How well held-out text is predicted."""

    loss: float
    """Nats per target token."""
    bits_per_byte: float
    """Bits per UTF-8 byte of the text that the targets stand for; sentinels cost bits and stand for nothing."""
    tokens: int
    """Target tokens measured."""


def batch_loss(model: PreTrainedModel, precision: str) -> LossFunction:
    """The mean cross-entropy of a model, in nats per target token.

    Args:
        model: Encoder-decoder, or decoder-only, whose targets are its inputs moved on by one.
        precision: `bf16` runs matrix products in bfloat16 under autocast, `fp32` does not.

    Returns:
        A function from inputs `[batch, seq]` and targets `[batch, target]` to a scalar in float32.
    """
    device = model.device.type
    encoder_decoder = model.config.is_encoder_decoder
    start = model.config.decoder_start_token_id if encoder_decoder else None

    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            if encoder_decoder:
                before = F.pad(targets[:, :-1], (1, 0), value=start)  # [batch, target]
                logits = model(input_ids=inputs, decoder_input_ids=before, use_cache=False).logits
            else:
                logits = model(input_ids=inputs, use_cache=False).logits  # [batch, target, vocab]
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    return loss


def measure_held_out(
    loss: LossFunction,
    text: PackedTokens,
    objective: Objective,
    special: SpecialIds,
    *,
    bytes_of: np.ndarray,
    window: int,
    windows: int,
    batch_size: int,
    device: torch.device,
) -> HeldOut:
    """Predict windows spread evenly over held-out text.

    Args:
        loss: From `batch_loss`.
        text: Held-out text, at least one window long.
        objective: What is predicted; the same spans and points each time.
        special: Tokens that the objective inserts.
        bytes_of: Bytes that each vocabulary entry stands for, `[vocab]`.
        window: Tokens per window.
        windows: How many windows, if there are as many.
        batch_size: Windows per batch.
        device: Where the model is.
    """
    count = min(windows, text.windows(window))
    chosen = np.linspace(0, text.windows(window) - 1, count).round().astype(np.int64)  # [windows]
    rng = np.random.default_rng(_HELD_OUT_SEED)
    nats, tokens, text_bytes = 0.0, 0, 0
    for start in range(0, count, batch_size):
        batch = objective(text.window(chosen[start : start + batch_size], window), special, rng)
        inputs, targets = (torch.from_numpy(part).to(device) for part in (batch.inputs, batch.targets))
        with torch.no_grad():
            nats += loss(inputs, targets).item() * batch.targets.size
        tokens += batch.targets.size
        text_bytes += int(bytes_of[batch.targets].sum())
    return HeldOut(loss=nats / tokens, bits_per_byte=nats / math.log(2) / max(1, text_bytes), tokens=tokens)


def flops_per_row(model: PreTrainedModel, loss: LossFunction, *, inputs: int, targets: int) -> int:
    """Floating-point operations of matrix products for one row, forward and backward, as torch counts them.

    The model's gradients are cleared.
    """
    row = torch.ones((1, inputs), dtype=torch.long, device=model.device)
    # Fused attention kernels are not counted on every device; their plain form is.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss(row, row[:, :1].expand(1, targets).contiguous()).backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops()
