"""The trainable parameters behind a prompt, and how they become its tensors.

Parameters are float32 masters, whatever the backbone's dtype. A reparameterisation trains more parameters than
the prompt has values; it is computed away when the prompt is stored.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = [
    "DirectPrefix",
    "DirectRows",
    "Parameters",
    "PromptTensors",
    "ReparameterizedPrefix",
    "ReparameterizedRows",
    "SharedRows",
    "TaskRows",
    "WithHead",
    "split_head",
]


_STACKS, _HEAD = "keys_values.", "head."


@dataclass(frozen=True, kw_only=True)
class PromptTensors:
    """What a prompt is to a backbone.

    Attributes:
        rows: Rows at the input embedding, `[length, dim]`; None if there are none.
        keys_values: By stack, `[layers, 2, kv_heads, length, head_dim]`: keys at index 0, values at 1. Layers are
            those that the method chooses.
        head: By name, weights of the head of an encoder that was trained with the prompt; empty without one.
    """

    rows: Float[Tensor, "length dim"] | None = None
    keys_values: Mapping[str, Float[Tensor, "layers 2 kv_heads length head_dim"]] = field(default_factory=dict)
    head: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Virtual tokens."""
        if self.rows is not None:
            return self.rows.shape[0]
        return next(iter(self.keys_values.values())).shape[3]

    def named(self) -> dict[str, Tensor]:
        """By name, as an artefact stores them."""
        rows = {} if self.rows is None else {"rows": self.rows}
        stacks = {_STACKS + stack: value for stack, value in self.keys_values.items()}
        return {**rows, **stacks, **{_HEAD + name: value for name, value in self.head.items()}}

    @classmethod
    def from_named(cls, tensors: Mapping[str, Tensor]) -> PromptTensors:
        """Read what `named` gave."""

        def under(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        return cls(rows=tensors.get("rows"), keys_values=under(_STACKS), head=under(_HEAD))


def split_head(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Stored tensors without those of a head, and those, by the head's own names."""
    inner = {name: value for name, value in tensors.items() if not name.startswith(_HEAD)}
    return inner, {name.removeprefix(_HEAD): value.detach() for name, value in tensors.items() if name not in inner}


class Parameters(nn.Module, abc.ABC):
    """Trainable parameters that a prompt's tensors are computed from."""

    @abc.abstractmethod
    def forward(self) -> PromptTensors:
        """The prompt's tensors, in float32, with gradients to every parameter."""

    def penalty(self) -> Tensor | None:
        """What is added to the loss of each training step, if anything: a scalar."""
        return None

    def common(self) -> Parameters | None:
        """What the prompts of several tasks share, as parameters of a prompt of its own, if they share any."""
        return None


class DirectRows(Parameters):
    """Rows at the input embedding, trained themselves (Lester et al. 2021, §2).

    Args:
        rows: Where they start.
        anchor: Rows that they are kept near to while they are trained; None keeps them near to nothing.
        weight: How strongly.
    """

    def __init__(
        self,
        rows: Float[Tensor, "length dim"],
        *,
        anchor: Float[Tensor, "length dim"] | None = None,
        weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows.float().clone())
        self.register_buffer("anchor", None if anchor is None else anchor.float().clone())
        self._is_anchored, self._weight = anchor is not None, weight

    def forward(self) -> PromptTensors:
        """The rows."""
        return PromptTensors(rows=self.rows)

    def penalty(self) -> Tensor | None:
        """The weighted squared distance from the anchor, per row (Khashabi et al. 2022, §3)."""
        if not self._is_anchored:
            return None
        return self._weight * (self.rows - self.get_buffer("anchor")).square().sum() / len(self.rows)


class DirectPrefix(Parameters):
    """Keys and values of every layer, trained themselves (Li & Liang 2021, §4.2; P-tuning v2)."""

    def __init__(self, keys_values: Mapping[str, Float[Tensor, "layers 2 kv_heads length head_dim"]]) -> None:
        super().__init__()
        self.keys_values = nn.ParameterDict(
            {stack: nn.Parameter(value.float().clone()) for stack, value in keys_values.items()}
        )

    def forward(self) -> PromptTensors:
        """The keys and values."""
        return PromptTensors(keys_values=dict(self.keys_values.items()))


class WithHead(Parameters):
    """A prompt's parameters, and the weights of an encoder's head that is trained with them (Liu et al. 2022, §3).

    Args:
        prompt: Whatever the method trains.
        head: By name, where the head starts.
    """

    def __init__(self, prompt: Parameters, head: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.prompt = prompt
        self._names = tuple(head)
        self.head = nn.ParameterList([nn.Parameter(value.float().clone()) for value in head.values()])

    def forward(self) -> PromptTensors:
        """The prompt's tensors with the head's."""
        tensors: PromptTensors = self.prompt()
        return replace(tensors, head=dict(zip(self._names, self.head, strict=True)))

    def penalty(self) -> Tensor | None:
        """That of the prompt."""
        return self.prompt.penalty()


class SharedRows(nn.Module):
    """Rows that the prompts of several tasks have in common."""

    def __init__(self, rows: Float[Tensor, "length dim"]) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows.float().clone())


class TaskRows(Parameters):
    """A task's rows: shared ones times a matrix of low rank, entry by entry (Wang et al. 2023, §3.1).

    The matrix begins as ones: the first of its rank-one parts is that, the others begin at zero.

    Args:
        shared: The shared rows; the same module in the prompts of all tasks.
        rank: Rank of the matrix.
        generator: Source of the random factors.
    """

    def __init__(self, shared: SharedRows, *, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        length, dim = shared.rows.shape
        self.shared = shared
        columns, rows = torch.ones(length, rank), torch.zeros(rank, dim)
        columns[:, 1:] = torch.randn(length, rank - 1, generator=generator)
        rows[0] = 1
        self.columns, self.rows = nn.Parameter(columns), nn.Parameter(rows)

    def forward(self) -> PromptTensors:
        """The shared rows times the task's matrix."""
        return PromptTensors(rows=self.shared.rows * (self.columns @ self.rows))

    def common(self) -> DirectRows:
        """The shared rows."""
        return DirectRows(self.shared.rows.detach())


class ReparameterizedRows(Parameters):
    """Rows at the input embedding, produced from trainable inputs by a prompt encoder (Liu et al. 2021, §3.2).

    `lstm` is a bidirectional LSTM of two layers, then linear, ReLU, linear; `mlp` is linear, ReLU, linear, ReLU,
    linear. A start is added to what the encoder gives, whose last layer then begins at zero.

    Args:
        start: Rows to start from, `[length, dim]`; None leaves the start to the encoder.
        length: Virtual tokens.
        dim: Width of a row, and of the encoder's inputs.
        encoder: `lstm` or `mlp`.
        hidden: Width inside the encoder; of each direction of the LSTM.
        generator: Source of the random inputs and weights.
    """

    def __init__(
        self,
        start: Float[Tensor, "length dim"] | None,
        *,
        length: int,
        dim: int,
        encoder: Literal["lstm", "mlp"],
        hidden: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.inputs = nn.Parameter(torch.randn(length, dim, generator=generator))
        last = _linear(2 * hidden if encoder == "lstm" else hidden, dim, generator)
        if encoder == "lstm":
            self.lstm: nn.Module | None = _lstm(dim, hidden, generator)
            self.mlp = nn.Sequential(_linear(2 * hidden, 2 * hidden, generator), nn.ReLU(), last)
        else:
            self.lstm = None
            inner = (_linear(dim, hidden, generator), nn.ReLU(), _linear(hidden, hidden, generator), nn.ReLU())
            self.mlp = nn.Sequential(*inner, last)
        if start is not None:
            for parameter in last.parameters():
                nn.init.zeros_(parameter)
        self.register_buffer("start", torch.zeros(length, dim) if start is None else start.float().clone())

    def forward(self) -> PromptTensors:
        """The rows that the encoder gives."""
        encoded = self.inputs if self.lstm is None else self.lstm(self.inputs)[0]  # [length, 2*hidden]
        return PromptTensors(rows=self.mlp(encoded) + self.get_buffer("start"))


class ReparameterizedPrefix(Parameters):
    """Keys and values of every layer, produced from small rows by an MLP (Li & Liang 2021, §4.3).

    For each stack, rows `[length, dim]` go through linear, tanh, linear to `[length, layers * 2 * kv_heads *
    head_dim]`. A start (the activations of real words) is added to what the MLP gives, whose last layer then
    begins at zero, so that training starts from exactly those activations.

    Args:
        start: By stack, where the prefix starts, `[layers, 2, kv_heads, length, head_dim]`.
        dim: Width of the rows that go in.
        hidden: Width between the two linear layers.
        from_start: Whether `start` is a place to begin at, or gives the shapes only.
        generator: Source of the random rows and weights.
    """

    def __init__(
        self, start: Mapping[str, Tensor], *, dim: int, hidden: int, from_start: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.rows = nn.ParameterDict()
        self.mlp = nn.ModuleDict()
        for stack, value in start.items():
            layers, two, heads, length, width = value.shape
            self.rows[stack] = nn.Parameter(torch.randn(length, dim, generator=generator))
            last = _linear(hidden, layers * two * heads * width, generator)
            if from_start:
                for parameter in last.parameters():
                    nn.init.zeros_(parameter)
            self.mlp[stack] = nn.Sequential(_linear(dim, hidden, generator), nn.Tanh(), last)
            self.register_buffer(f"start_{stack}", value.float().clone() if from_start else torch.zeros_like(value))

    def forward(self) -> PromptTensors:
        """The keys and values that the MLP gives."""
        keys_values = {}
        for stack, rows in self.rows.items():
            start = self.get_buffer(f"start_{stack}")
            layers, two, heads, length, width = start.shape
            flat = self.mlp[stack](rows)  # [length, layers*2*kv_heads*head_dim]
            shaped = flat.view(length, layers, two, heads, width).permute(1, 2, 3, 0, 4)
            keys_values[stack] = shaped + start  # [layers, 2, kv_heads, length, head_dim]
        return PromptTensors(keys_values=keys_values)


def _lstm(inputs: int, hidden: int, generator: torch.Generator) -> nn.LSTM:
    """A bidirectional LSTM of two layers as torch initialises it, but from a given generator."""
    with torch.random.fork_rng(devices=[]):  # it draws values of its own
        lstm = nn.LSTM(inputs, hidden, num_layers=2, bidirectional=True)
    for parameter in lstm.parameters():
        nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5, generator=generator)
    return lstm


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer as torch initialises it, but from a given generator."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    bound = inputs**-0.5
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer
