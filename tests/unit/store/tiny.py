"""Tiny backbones and prompts for the tests of stored formats."""

from __future__ import annotations

import functools

import torch
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

from softprompt.backbones import Backbone
from softprompt.prompts import SoftPrompt

IDS = {"vocab_size": 40, "pad_token_id": 0, "eos_token_id": 1}


@functools.cache
def causal(seed: int = 0, *, dim: int = 8, layers: int = 2) -> Backbone:
    """A decoder-only model."""
    torch.manual_seed(seed)
    config = GPT2Config(n_embd=dim, n_layer=layers, n_head=2, n_positions=32, bos_token_id=1, **IDS)
    return Backbone.from_model(GPT2LMHeadModel(config), name="tiny-causal")


@functools.cache
def two_sided() -> Backbone:
    """An encoder-decoder of the same width."""
    torch.manual_seed(0)
    config = T5Config(d_model=8, d_kv=4, d_ff=16, num_layers=2, num_heads=2, decoder_start_token_id=0, **IDS)
    return Backbone.from_model(T5ForConditionalGeneration(config), name="tiny-two-sided")


def unbound(prompt: SoftPrompt) -> SoftPrompt:
    """The prompt as an importer makes it without a backbone."""
    return prompt.with_info(backbone="someone/model", fingerprint={}, tokenizer=None)


def same(one: SoftPrompt, other: SoftPrompt) -> bool:
    """Whether two prompts have the same tensors, bit by bit."""
    ours, theirs = one().named(), other().named()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
