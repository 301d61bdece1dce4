"""Tiny random models for comparisons with PEFT, in which attention and positions matter."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PegasusConfig,
    PegasusForConditionalGeneration,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

VOCAB, DIM = 60, 24
IDS = {"vocab_size": VOCAB, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
ENCODER_DECODER = {
    **IDS, "d_model": DIM, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 40,
    "decoder_start_token_id": 2,
}  # fmt: skip


def gpt2() -> PreTrainedModel:
    """Learned positions."""
    return GPT2LMHeadModel(GPT2Config(n_embd=DIM, n_layer=3, n_head=4, n_positions=40, **IDS))


def llama() -> PreTrainedModel:
    """Rotary positions, grouped-query heads, and a head width that is not dim / heads."""
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=DIM, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            head_dim=10, max_position_embeddings=40, **IDS,
        )
    )  # fmt: skip


def t5() -> PreTrainedModel:
    """Relative positions, more encoder than decoder layers, and attention narrower than the model."""
    return T5ForConditionalGeneration(
        T5Config(d_model=DIM, d_kv=5, d_ff=32, num_layers=3, num_decoder_layers=2, num_heads=4,
                 decoder_start_token_id=0, **IDS)
    )  # fmt: skip


def bart() -> PreTrainedModel:
    """Learned positions in encoder and decoder."""
    return BartForConditionalGeneration(BartConfig(forced_eos_token_id=None, **ENCODER_DECODER))


def pegasus() -> PreTrainedModel:
    """Embeddings that are scaled outside their table."""
    return PegasusForConditionalGeneration(PegasusConfig(scale_embedding=True, **ENCODER_DECODER))


def make(build: object, seed: int = 0) -> PreTrainedModel:
    """A model whose weights are large enough that a wrong mask or position changes its logits."""
    assert callable(build)
    torch.manual_seed(seed)
    model = build().eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            parameter.data.normal_(std=1.3 * parameter.shape[1] ** -0.5)
        elif "bias" in name:
            parameter.data.normal_(std=0.1)
    return model


def batch(*, rows: int = 3, seq: int = 7) -> tuple[Tensor, Tensor]:
    """Token ids and their mask, padded on the right: rows of `seq`, `seq - 2`, `seq - 4` tokens."""
    ids = torch.randint(3, VOCAB, (rows, seq), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(seq) < torch.tensor([seq - 2 * row for row in range(rows)])[:, None]
    return ids.masked_fill(~mask, 0), mask.long()


def targets(*, rows: int = 3, seq: int = 4) -> Tensor:
    """What a decoder reads."""
    return torch.randint(3, VOCAB, (rows, seq), generator=torch.Generator().manual_seed(2))
