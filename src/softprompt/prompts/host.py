"""What building a prompt needs of a backbone and of a task; neither is imported here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["FingerprintLike", "Host", "LabelledTask", "SpecLike", "StackLike"]


@runtime_checkable
class StackLike(Protocol):
    """A stack of attention layers."""

    @property
    def layers(self) -> int:
        """Number of layers."""

    @property
    def kv_heads(self) -> int:
        """Key and value heads of a layer."""

    @property
    def head_dim(self) -> int:
        """Width of a key or value."""

    def chosen(self, layers: Sequence[int] | None) -> tuple[int, ...]:
        """Indices of those of its layers that are meant, ascending; None means all."""


@runtime_checkable
class SpecLike(Protocol):
    """The facts of a backbone."""

    @property
    def kind(self) -> str:
        """`encoder-decoder`, `decoder-only` or `encoder-only`."""

    @property
    def dim(self) -> int:
        """Width of a prompt's row."""

    @property
    def stacks(self) -> Mapping[str, StackLike]:
        """Stacks by name."""

    @property
    def no_prefix(self) -> str | None:
        """Why keys and values cannot be given to the layers, or None."""


@runtime_checkable
class FingerprintLike(Protocol):
    """Which model it is."""

    def to_mapping(self) -> dict[str, str]:
        """As plain values."""

    def is_of(self, values: Mapping[str, str]) -> bool:
        """Whether plain values are of the same model."""


@runtime_checkable
class Host(Protocol):
    """A backbone, as far as building a prompt is concerned."""

    @property
    def name(self) -> str:
        """What to call it."""

    @property
    def spec(self) -> SpecLike:
        """Its facts."""

    @property
    def fingerprint(self) -> FingerprintLike:
        """Which model it is."""

    @property
    def tokenizer_digest(self) -> str | None:
        """Which tokenizer it has."""

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""

    def embed(self, ids: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape dim"]:
        """Embed token ids as the model does."""

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""

    def common_tokens(self, count: int) -> list[int]:
        """The tokenizer's first real entries."""

    def start_head(self, classes: int | None, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Weights of a new classification head, by name; of as many classes as the model's own if None."""

    def start_token_head(
        self, kind: Literal["tokens", "span"], outputs: int, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        """Weights of a new head over an encoder's tokens, by name."""

    def record(
        self, embeddings: Float[Tensor, "prompts prompt dim"], mask: Bool[Tensor, "prompts prompt"]
    ) -> Mapping[Any, tuple[Tensor, Tensor]]:
        """Keys and values of each layer for rows of embeddings, by `(stack, layer)`."""


@runtime_checkable
class LabelledTask(Protocol):
    """A task, as far as building a prompt is concerned."""

    @property
    def labels(self) -> Sequence[str] | None:
        """The words of its classes, in order, or None if it has none."""

    @property
    def start_words(self) -> Sequence[str]:
        """Words that a prompt starts from instead of labels, where there are none; empty if there are no such words."""

    @property
    def tags(self) -> Sequence[str] | None:
        """The tags of its words, in order, or None if they have none."""

    @property
    def context(self) -> str | None:
        """The column in whose words its targets stand, or None if they stand in none."""

    @property
    def segments(self) -> Sequence[int]:
        """Virtual tokens at each place that its template has for them; empty if it does not divide them."""
