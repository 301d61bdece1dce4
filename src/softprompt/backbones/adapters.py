"""Backbones that carry an adapter, put into them by peft: found, unwrapped, and known by what they compute."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from softprompt.errors import BackboneError

__all__ = ["brings_a_head", "computed_weights", "unwrap"]

_INSIDE, _ADAPTER = ".base_layer.", ".modules_to_save."


def unwrap(model: nn.Module) -> PreTrainedModel:
    """The transformers model, with the adapter's layers in it, of what peft may have wrapped around it.

    Raises:
        BackboneError: If it is no such model, or peft's prompt stands before it.
    """
    if isinstance(model, PreTrainedModel):
        return model
    peft = sys.modules.get("peft")  # which is there if the model is one of its own
    if peft is None or not isinstance(model, peft.PeftModel):
        raise BackboneError(f"A backbone is a transformers model, but got {type(model).__name__}; load one.")
    if model.active_peft_config.is_prompt_learning:
        raise BackboneError(
            "The model carries one of peft's own prompts; give the bare model, and take the prompt with sp.load_peft."
        )
    base: PreTrainedModel = model.get_base_model()
    return base


def computed_weights(model: PreTrainedModel) -> Iterator[Tensor]:
    """The weights that a model computes with, in the order of their names, each made when its turn comes.

    Plain low-rank changes are added to what they change, so that merging them makes no difference. Whatever else an
    adapter brings (changes of magnitude or bias, of embeddings or tied tables, whole modules) stands beside the others,
    and merging it makes another model.
    """
    weights: dict[str, Any] = dict(model.named_parameters())
    if any(_INSIDE in name for name in weights):
        weights = _with_changed_layers(model, weights)
    for _, weight in sorted(weights.items()):
        yield weight if isinstance(weight, Tensor) else _changed_weight(weight)


def _with_changed_layers(model: PreTrainedModel, weights: dict[str, Any]) -> dict[str, Any]:
    """Weights by name, where each layer that a LoRA changes stands for its own; as they were if not all are plain."""
    from peft.tuners.lora import LoraLayer

    layers = {place: module for place, module in model.named_modules() if isinstance(module, LoraLayer)}
    others = {name: weight for name, weight in weights.items() if not name.startswith(tuple(f"{p}." for p in layers))}
    owners = Counter(id(weight) for _, weight in model.named_parameters(remove_duplicate=False))
    shared = any(owners[id(layer.base_layer.weight)] > 1 for layer in layers.values())
    if shared or not all(map(_is_plain, layers.values())) or any(_ADAPTER in name for name in others):
        return weights
    biases = {f"{place}.bias": layer.base_layer.bias for place, layer in layers.items()}
    changed = {f"{place}.weight": layer for place, layer in layers.items()}
    return {**others, **changed, **{name: bias for name, bias in biases.items() if bias is not None}}


def brings_a_head(model: PreTrainedModel) -> bool:
    """Whether an adapter has trained whole modules of the model, such as its head."""
    return any(_ADAPTER in name for name, _ in model.named_parameters())


def _is_plain(layer: Any) -> bool:
    """Whether a layer's changes are a product of two matrices and nothing else, of a table that nothing shares."""
    dense = isinstance(layer.base_layer, nn.Linear | Conv1D) and layer.base_layer.weight.is_floating_point()
    return dense and not any(layer.use_dora.values()) and not any(layer.lora_bias.values())


def _changed_weight(layer: Any) -> Tensor:
    active = () if layer.merged or layer.disable_adapters else layer.active_adapters
    changes = [layer.get_delta_weight(name) for name in active if name in layer.r]
    weight: Tensor = sum(changes, start=layer.base_layer.weight.detach())
    return weight
