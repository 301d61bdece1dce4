"""Backbones that carry an adapter, put into them by peft: found, unwrapped, merged, and known by what they compute."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from softprompt.backbones.offloading import kept_weight
from softprompt.backbones.sharding import own_parameters
from softprompt.errors import BackboneError, UnsupportedError

__all__ = ["brings_a_head", "check_merges", "computed_weights", "merge", "unwrap"]

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
    own = own_parameters(model)
    weights: dict[str, Any] = {name: kept_weight(model, name, weight) for name, weight in own.items()}
    if any(_INSIDE in name for name in weights):
        weights = _with_changed_layers(model, weights)
    for _, weight in sorted(weights.items()):
        yield weight if isinstance(weight, Tensor) else _changed_weight(weight)


def _with_changed_layers(model: PreTrainedModel, weights: dict[str, Any]) -> dict[str, Any]:
    """Weights by name, where each layer that a LoRA changes stands for its own; as they were if not all are plain."""
    from peft.tuners.lora import LoraLayer

    layers = {place: module for place, module in model.named_modules() if isinstance(module, LoraLayer)}
    others = {name: weight for name, weight in weights.items() if not name.startswith(tuple(f"{p}." for p in layers))}
    shared = any(_is_shared(model, layer.base_layer) for layer in layers.values())
    if shared or not all(map(_is_plain, layers.values())) or any(_ADAPTER in name for name in others):
        return weights
    biases = {f"{place}.bias": layer.base_layer.bias for place, layer in layers.items()}
    changed = {f"{place}.weight": layer for place, layer in layers.items()}
    return {**others, **changed, **{name: bias for name, bias in biases.items() if bias is not None}}


def brings_a_head(model: PreTrainedModel) -> bool:
    """Whether an adapter has trained whole modules of the model, such as its head."""
    return any(_ADAPTER in name for name, _ in model.named_parameters())


def check_merges(model: PreTrainedModel) -> None:
    """Refuse a model whose adapter cannot be computed into its weights so that it stays the same model.

    Low-rank changes and factors of dense layers can be, and whole modules that were trained, unless another part of
    the model shares their weights.

    Raises:
        UnsupportedError: If it carries such an adapter.
    """
    for place, layer in _carried(model).items():
        if not _merges(model, layer):
            raise UnsupportedError(
                f"{type(model).__name__} carries an adapter whose {type(layer).__name__} at {place} cannot be merged"
                " exactly; weights are trained on models without one: take the model that it was trained on."
            )


@torch.no_grad()
def merge(model: PreTrainedModel) -> None:
    """Compute an adapter that a model carries into its weights, in place, and take its layers out.

    Raises:
        UnsupportedError: As of `check_merges`.
    """
    layers = _carried(model)
    if not layers:
        return
    from peft.utils.other import ModulesToSaveWrapper

    check_merges(model)
    for place, layer in layers.items():
        if isinstance(layer, ModulesToSaveWrapper):
            active = () if layer.disable_adapters else layer.active_adapters
            plain = layer.modules_to_save[active[0]] if active else layer.original_module
        else:
            if not (layer.merged or layer.disable_adapters):
                layer.merge()
            plain = layer.base_layer
        model.set_submodule(place, plain)
    for left in ("peft_config", "_weight_conversions"):  # the latter are of the adapter's names, if it was loaded
        vars(model).pop(left, None)
    model._hf_peft_config_loaded = False  # transformers would store the adapter alone


def _carried(model: nn.Module) -> dict[str, Any]:
    """The layers that peft put into a model, by their places, without those inside of one another."""
    if "peft" not in sys.modules:
        return {}
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    found: dict[str, Any] = {}
    for place, module in model.named_modules():  # outer ones first
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper) and not place.startswith(
            tuple(f"{outer}." for outer in found)
        ):
            found[place] = module
    return found


def _merges(model: PreTrainedModel, layer: Any) -> bool:
    from peft.tuners.ia3 import IA3Layer
    from peft.tuners.lora import LoraLayer
    from peft.utils.other import ModulesToSaveWrapper

    if isinstance(layer, ModulesToSaveWrapper):
        return not (_carried(layer.modules_to_save) or _is_shared(model, layer.original_module))
    plain = _is_plain(layer) if isinstance(layer, LoraLayer) else isinstance(layer, IA3Layer) and _is_dense(layer)
    return plain and not _is_shared(model, layer.base_layer)


def _is_shared(model: nn.Module, part: nn.Module) -> bool:
    """Whether another part of a model has weights of this one."""
    owners = Counter(id(weight) for _, weight in model.named_parameters(remove_duplicate=False))
    return any(owners[id(weight)] > 1 for weight in part.parameters())


def _is_plain(layer: Any) -> bool:
    """Whether a layer's changes are a product of two matrices and nothing else."""
    return _is_dense(layer) and not any(layer.use_dora.values()) and not any(layer.lora_bias.values())


def _is_dense(layer: Any) -> bool:
    return isinstance(layer.base_layer, nn.Linear | Conv1D) and layer.base_layer.weight.is_floating_point()


def _changed_weight(layer: Any) -> Tensor:
    active = () if layer.merged or layer.disable_adapters else layer.active_adapters
    changes = [layer.get_delta_weight(name) for name in active if name in layer.r]
    weight: Tensor = sum(changes, start=layer.base_layer.weight.detach())
    return weight
