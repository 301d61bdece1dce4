"""What the rest of the library knows of a model: its kind, its widths, and where prompts can go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from softprompt.errors import UnsupportedError

__all__ = ["BackboneSpec", "Kind", "Stack", "StackSpec"]

Kind = Literal["encoder-decoder", "decoder-only", "encoder-only"]
Stack = Literal["encoder", "cross", "decoder"]


@dataclass(frozen=True, kw_only=True)
class StackSpec:
    """One stack of attention layers: what a prefix for it must look like.

    Attributes:
        layers: Number of attention layers.
        kv_heads: Key and value heads of a layer (grouped-query attention has fewer than query heads).
        head_dim: Width of one key or value.
    """

    layers: int
    kv_heads: int
    head_dim: int

    def chosen(self, layers: Sequence[int] | None) -> tuple[int, ...]:
        """Indices of some of its layers, ascending.

        Args:
            layers: Indices from 0 in front or from -1 behind, those that it lacks left out; None means all.
        """
        if layers is None:
            return tuple(range(self.layers))
        return tuple(sorted({index % self.layers for index in layers if -self.layers <= index < self.layers}))


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """The facts of a backbone that building and applying prompts needs, read off the model itself.

    Attributes:
        kind: Encoder-decoder, decoder-only, or encoder-only.
        dim: Width of an input embedding: that of a prompt's rows (may differ from the hidden width).
        vocab: Rows of the embedding table.
        stacks: By name, the stacks of attention layers that can take keys and values: `encoder`, `cross`
            (the decoder's attention onto the encoder) and `decoder`. A decoder-only model has `decoder`.
        max_positions: Longest sequence, prompt included, in tokens; None where positions are unbounded.
        no_prefix: Why keys and values cannot be given to this model's layers, or None if they can.
    """

    kind: Kind
    dim: int
    vocab: int
    stacks: Mapping[str, StackSpec] = field(default_factory=dict)
    max_positions: int | None = None
    no_prefix: str | None = None

    @property
    def layers(self) -> int:
        """Layers of the first stack: the encoder's, or a decoder-only model's."""
        return self._first.layers

    @property
    def decoder_layers(self) -> int:
        """Layers of the decoder; 0 in an encoder-only model."""
        decoder = self.stacks.get("decoder")
        return decoder.layers if decoder else 0

    @property
    def kv_heads(self) -> int:
        """Key and value heads of a layer of the first stack."""
        return self._first.kv_heads

    @property
    def head_dim(self) -> int:
        """Width of a key or value in the first stack."""
        return self._first.head_dim

    @property
    def _first(self) -> StackSpec:
        if not self.stacks:
            raise UnsupportedError(f"This backbone's attention layers cannot be described: {self.no_prefix}")
        return next(iter(self.stacks.values()))
