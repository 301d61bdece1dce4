"""A backbone as far as prompts are concerned: shapes of any size, a vocabulary of letters, no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch import Tensor

FINGERPRINT = {"architecture": "c0ffee", "weights": "AAAA"}


@dataclass(frozen=True)
class Stack:
    """A stack of attention layers."""

    layers: int
    kv_heads: int
    head_dim: int

    def chosen(self, layers: Sequence[int] | None) -> tuple[int, ...]:
        """Those layers, in order."""
        return tuple(i for i in range(self.layers) if layers is None or {i, i - self.layers} & set(layers))


@dataclass(frozen=True)
class Spec:
    """The facts of a backbone."""

    kind: str
    dim: int
    stacks: Mapping[str, Stack] = field(default_factory=dict)
    no_prefix: str | None = None


class Letters:
    """Knows the letters a to z; the letter number n is embedded as n in every dimension."""

    def __init__(self, spec: Spec) -> None:
        self.name = "letters"
        self.spec = spec
        self.fingerprint = SimpleNamespace(to_mapping=lambda: FINGERPRINT, is_of=lambda values: values == FINGERPRINT)
        self.tokenizer_digest = "abc"
        self.device = torch.device("cpu")

    def embed(self, ids: Tensor) -> Tensor:
        """Each id, `dim` times."""
        return ids[..., None].to(torch.float64).expand(*ids.shape, self.spec.dim)

    def tokenize(self, text: str) -> list[int]:
        """A number from 1 for each letter; all else is dropped."""
        return [ord(letter) - ord("a") + 1 for letter in text if "a" <= letter <= "z"]

    def common_tokens(self, count: int) -> list[int]:
        """The letters' numbers, and a thousand unknown ones."""
        return list(range(1, 1027))[:count]

    def start_head(self, classes, generator):
        """One layer over two letters' worth of values."""
        return {"classifier.weight": torch.randn(classes or 2, self.spec.dim, generator=generator)}

    def start_token_head(self, kind, outputs, generator):
        """One layer."""
        return {f"{kind}.weight": torch.randn(outputs, self.spec.dim, generator=generator)}

    def record(self, embeddings: Tensor, mask: Tensor) -> dict[tuple[str, int], tuple[Tensor, Tensor]]:
        """Keys that say which token they are for, values that say which layer they are of."""
        made = {}
        for name, stack in self.spec.stacks.items():
            shape = (len(embeddings), stack.kv_heads, embeddings.shape[1], stack.head_dim)
            keys = embeddings[:, None, :, :1].expand(shape)
            for layer in range(stack.layers):
                made[name, layer] = (keys, torch.full(shape, float(layer)))
        return made


GPT2_MEDIUM = Letters(Spec("decoder-only", 1024, {"decoder": Stack(24, 16, 64)}))
SMALL = Letters(Spec("decoder-only", 4, {"decoder": Stack(3, 2, 5)}))
TRANSLATOR = Letters(
    Spec("encoder-decoder", 4, {"encoder": Stack(3, 2, 5), "cross": Stack(2, 2, 5), "decoder": Stack(2, 1, 5)})
)
