"""Shapes of small backbones, and fresh models of them.

`t5` is T5 v1.1: gated GELU, no dropout, an untied output head. `gpt` is Llama-shaped rather than GPT-2-shaped:
rotary positions, RMSNorm and SwiGLU learn more from the same tokens, nothing has a bias, and position shifts and long
inputs then behave in the small model as they do in the large ones that people use today.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, final

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, T5Config, T5ForConditionalGeneration

from softprompt.config import choose
from softprompt.pretraining.starts import look_for_the_same, look_near

__all__ = [
    "ARCHITECTURES",
    "SHAPES",
    "Architecture",
    "Shape",
    "UnequalSizes",
    "build_model",
    "find_architecture",
    "find_shape",
]

_PAD, _EOS = 0, 1


@final
@dataclass(frozen=True, kw_only=True)
class Shape:
    """Widths and depths; an encoder-decoder has `layers` on either side."""

    dim: int
    hidden: int
    """Width inside a feed-forward layer."""
    heads: int
    layers: int

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.dim // self.heads


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "t5-tiny": Shape(dim=32, hidden=80, heads=2, layers=2),
        "t5-mini": Shape(dim=96, hidden=256, heads=3, layers=3),
        "t5-small": Shape(dim=192, hidden=512, heads=3, layers=4),
        "t5-base": Shape(dim=384, hidden=1024, heads=6, layers=5),
        "gpt-tiny": Shape(dim=48, hidden=128, heads=3, layers=3),
        "gpt-mini": Shape(dim=128, hidden=352, heads=4, layers=5),
        "gpt-small": Shape(dim=256, hidden=640, heads=4, layers=4),
        "gpt-base": Shape(dim=448, hidden=1216, heads=7, layers=10),
    }
)


@final
@dataclass(frozen=True, kw_only=True)
class UnequalSizes:
    """Which parameters are drawn larger or smaller than a matrix, and need steps in proportion.

    T5 was trained with steps in proportion to a parameter's size (Raffel et al. 2020, §3.1.2).
    """

    table: str
    """Name of the table of embeddings, drawn at size 1."""
    queries: str
    """How the names of query matrices end, drawn at `1 / sqrt(dim * head_dim)`."""


@final
@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A family of shapes and the objectives that fit it."""

    kind: Literal["encoder-decoder", "decoder-only"]
    objectives: tuple[str, ...]
    build: Callable[[Shape, int, int], PreTrainedModel]
    """From shape, vocabulary size and longest sequence to a model with random weights."""
    longest: str
    """The setting of its configuration that states the longest sequence."""
    sizes: UnequalSizes | None
    """Which parameters are not drawn at `1 / sqrt(dim)`, if any."""


def find_shape(name: str) -> Shape:
    """The shape of a preset such as `t5-small`.

    Raises:
        ConfigError: If there is no such preset.
    """
    if name not in SHAPES:
        raise choose("model preset", name, SHAPES)
    return SHAPES[name]


def find_architecture(preset: str) -> Architecture:
    """The architecture of a preset, which its name begins with.

    Raises:
        ConfigError: If there is no such preset.
    """
    find_shape(preset)
    return ARCHITECTURES[preset.partition("-")[0]]


def build_model(preset: str, *, vocab: int, max_length: int, seed: int) -> PreTrainedModel:
    """A model with random weights, in float32, in training mode.

    Args:
        preset: A key of `SHAPES`.
        vocab: Vocabulary entries.
        max_length: Longest sequence, in tokens, that the configuration states. T5's relative positions know none.
        seed: Of the weights; torch's own random state is left as it was.

    Raises:
        ConfigError: If there is no such preset.
    """
    architecture, shape = find_architecture(preset), find_shape(preset)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return architecture.build(shape, vocab, max_length).train()


def _t5(shape: Shape, vocab: int, max_length: int) -> PreTrainedModel:
    config = T5Config(
        vocab_size=vocab,
        d_model=shape.dim,
        d_kv=shape.head_dim,
        d_ff=shape.hidden,
        num_layers=shape.layers,
        num_decoder_layers=shape.layers,
        num_heads=shape.heads,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=_PAD,
        eos_token_id=_EOS,
        tie_word_embeddings=False,
        decoder_start_token_id=_PAD,
        n_positions=max_length,
    )
    model = T5ForConditionalGeneration(config)
    # The configuration takes "untied" to mean v1.1 but ties all tables, and the flag set back would untie all four;
    # v1.1 shares one table between encoder and decoder and has a head of its own.
    model.lm_head.weight = nn.Parameter(torch.empty_like(model.shared.weight))
    nn.init.normal_(model.lm_head.weight, std=shape.dim**-0.5)
    model.config.tie_word_embeddings = False
    look_for_the_same(model)
    look_near(model)
    return model


def _gpt(shape: Shape, vocab: int, max_length: int) -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=shape.dim,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.head_dim,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        pad_token_id=_PAD,
        bos_token_id=_EOS,
        eos_token_id=_EOS,
    )
    return LlamaForCausalLM(config)


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "t5": Architecture(
            kind="encoder-decoder",
            objectives=("span_corruption", "prefix_lm"),
            build=_t5,
            longest="n_positions",
            sizes=UnequalSizes(table="shared.weight", queries=".q.weight"),
        ),
        "gpt": Architecture(
            kind="decoder-only",
            objectives=("causal_lm",),
            build=_gpt,
            longest="max_position_embeddings",
            sizes=None,
        ),
    }
)
