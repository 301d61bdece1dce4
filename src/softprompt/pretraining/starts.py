"""Where a small T5 starts: with a decoder that looks at its encoder.

Drawn at random, T5's attention treats all inputs alike, and what a decoder could read there is of no use until both
learn their part. Small ones that see no more than tens of millions of tokens learn how often tokens are, and the
target's own text, and hardly read their input: they lose next to nothing when it is exchanged for another
(`softprompt backbones check`; `docs/log.md`, 2026-11-21). Here both parts are there from the first step, and every
weight is trained as ever.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import T5ForConditionalGeneration

__all__ = ["look_for_the_same", "look_near"]

# Of an encoder's heads, in turn: those before a position, those behind it, and all around it. Logits per position.
_SLOPES = (1.0, 1.0, 0.25)
_OTHER_SIDE, _ITSELF, _FARTHEST = 4.0, 1.0, 8.0


@torch.no_grad()
def look_for_the_same(model: T5ForConditionalGeneration) -> None:
    """Let each token of the decoder attend to its like in the encoder: a sentinel to its own place.

    Queries and keys of the attention across start as the same matrix, at the sizes that T5 draws them with, so that
    tokens whose embeddings are alike get large logits.

    Args:
        model: With random weights; changed in place.
    """
    for block in model.decoder.block:
        across = block.layer[1].EncDecAttention
        across.q.weight.copy_(across.k.weight * across.key_value_proj_dim**-0.5)


@torch.no_grad()
def look_near(model: T5ForConditionalGeneration) -> None:
    """Let each token attend to its neighbours, so that a place in the encoder knows what stands around it.

    The biases of relative positions fall with the distance; of the encoder's heads some look ahead and some back.

    Args:
        model: With random weights; changed in place.
    """
    for stack, both_sides in ((model.encoder, True), (model.decoder, False)):
        attention = stack.block[0].layer[0].SelfAttention
        far = model.config.relative_attention_max_distance
        offsets = torch.arange(-far, far + 1 if both_sides else 1, device="cpu")  # of what is looked at
        buckets = attention._relative_position_bucket(
            offsets,
            bidirectional=both_sides,
            num_buckets=attention.relative_attention_num_buckets,
            max_distance=far,
        )
        heads = [_bias(offsets, head, both_sides=both_sides) for head in range(attention.n_heads)]
        wanted = torch.stack(heads, dim=1)  # [offsets, heads]
        members = nn.functional.one_hot(buckets, attention.relative_attention_num_buckets).float()  # [offsets, buckets]
        means = members.T @ wanted / members.sum(0).clamp(min=1)[:, None]  # [buckets, heads]
        attention.relative_attention_bias.weight.copy_(means)


def _bias(offsets: Int[Tensor, " offsets"], head: int, *, both_sides: bool) -> Float[Tensor, " offsets"]:
    """The logit that a head gives to each offset."""
    kind = head % len(_SLOPES)
    bias = -_SLOPES[kind] * offsets.abs().float()
    if both_sides and kind < 2:
        other_side = offsets > 0 if kind == 0 else offsets < 0
        bias = bias - _OTHER_SIDE * other_side - _ITSELF * (offsets == 0)
    return bias.clamp(min=-_FARTHEST)
