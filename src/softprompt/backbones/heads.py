"""Heads of encoder-only models, run with the weights that a prompt brings.

A head over classes is the family's own: what stands behind the model's base. A head over tokens is one linear layer
over the base's last states, whatever class the model is of (Devlin et al. 2019, §4.2 and §5.3): `tokens` gives each
token a logit for each tag, `span` one for being the first of an answer and one for being the last.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from typing import Any, Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from softprompt.errors import UnsupportedError

__all__ = ["ClassificationHead", "TokenHead", "start_linear", "start_token_head", "token_head_of", "token_logits"]

TokenHead = Literal["tokens", "span"]
"""What a head over tokens reads off each of them: which tag it has, or whether an answer begins or ends there."""

_STD = 0.02


@final
class ClassificationHead:
    """The head of a model for sequence classification, by itself.

    It is a copy of the model in which the base is replaced by what the base gave for a batch, so that whatever the
    family does between the two happens here too, with other weights for other rows. The model itself is left alone.

    Attributes:
        classes: Classes of the model's own head.
        parts: Names of the model's modules that have its weights.

    Args:
        model: A model for sequence classification.

    Raises:
        UnsupportedError: If base and head cannot be told apart.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        place = model.base_model_prefix
        if model.base_model is model or dict(model.named_children()).get(place) is not model.base_model:
            raise UnsupportedError(f"{type(model).__name__} does not tell its head from its base; train without head.")
        self._given = _Given()
        self._module = copy.copy(model)
        # the copy shares everything with the model but the dictionary of its parts, and the head's parts
        self._module.__dict__["_modules"] = {
            name: self._given if name == place else copy.deepcopy(module) for name, module in model.named_children()
        }
        self._module.__dict__.pop("forward", None)  # a hook's, which is bound to the model
        self._lock = threading.Lock()  # a call puts its weights into the copy for as long as it lasts
        self.classes: int = model.config.num_labels
        self.parts = tuple(
            name
            for name, module in model.named_children()
            if name != place and next(module.parameters(), None) is not None
        )

    def start(self, classes: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Weights to train from, by name: linear layers anew, whatever else as the model has it.

        Args:
            classes: How many classes the last layer is to tell apart.
            generator: The only source of randomness.
        """
        layers = {name: module for name, module in self._module.named_modules() if isinstance(module, nn.Linear)}
        last = [name for name, layer in layers.items() if layer.out_features == self.classes][-1:]
        weights = {name: value.detach().float().cpu().clone() for name, value in self._module.named_parameters()}
        for name, layer in layers.items():
            outputs = classes if name in last else layer.out_features
            made = start_linear(layer.in_features, outputs, layer.bias is not None, generator)
            weights |= {f"{name}.{part}": value for part, value in made.items()}
        return weights

    def __call__(
        self, weights: Mapping[str, Tensor], output: ModelOutput, inputs: Mapping[str, Any], rows: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows classes"]:
        """Logits of some rows of a batch.

        Args:
            weights: By name; the model's own where there are none.
            output: What the base gave for the batch.
            inputs: What the model was given for the batch.
            rows: Which rows.
        """
        with self._lock:
            self._given.output = type(output)(**{name: _taken(value, rows) for name, value in output.items()})
            own = {name: _taken(value, rows) for name, value in inputs.items()}
            try:
                logits: Tensor = functional_call(self._module, dict(weights), kwargs=own).logits
            finally:
                self._given.output = None  # it holds the batch, and its graph
        return logits


class _Given(nn.Module):
    """Stands for the base, and gives what the base gave."""

    output: ModelOutput | None = None

    def forward(self, *_: Any, **__: Any) -> ModelOutput | None:
        return self.output


def start_linear(inputs: int, outputs: int, bias: bool, generator: torch.Generator) -> dict[str, Tensor]:
    """Weight `[outputs, inputs]`, small and random, and a bias of zeros, if there is one."""
    weight = {"weight": torch.randn(outputs, inputs, generator=generator) * _STD}
    return {**weight, "bias": torch.zeros(outputs)} if bias else weight


def start_token_head(kind: TokenHead, dim: int, outputs: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights of a head over tokens, by name: `KIND.weight` `[outputs, dim]`, and for tags `KIND.bias`.

    The logits of a span are compared over tokens, where a bias makes no difference: its gradient would be rounding
    alone, which Adam makes as large as any other.
    """
    made = start_linear(dim, outputs, kind == "tokens", generator)
    return {f"{kind}.{part}": value for part, value in made.items()}


def token_head_of(weights: Mapping[str, Tensor]) -> TokenHead | None:
    """What a head reads off tokens, by the names of its weights; None for one over classes, and for none at all."""
    kinds: tuple[TokenHead, ...] = ("tokens", "span")
    return next((kind for kind in kinds if f"{kind}.weight" in weights), None)


def token_logits(
    kind: TokenHead, weights: Mapping[str, Tensor], states: Float[Tensor, "rows seq dim"]
) -> Float[Tensor, "rows seq outputs"]:
    """Logits of tokens, by a head over them."""
    return nn.functional.linear(states, weights[f"{kind}.weight"], weights.get(f"{kind}.bias"))


def _taken(value: Any, rows: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[rows]
    return tuple(_taken(one, rows) for one in value) if isinstance(value, tuple) else value
