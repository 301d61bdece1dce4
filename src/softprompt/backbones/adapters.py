"""Backbones that carry an adapter, put into them by peft: found, unwrapped, and known by what they compute."""

from __future__ import annotations

import sys

from torch import Tensor, nn
from transformers import PreTrainedModel

from softprompt.errors import BackboneError

__all__ = ["effective_weights", "unwrap"]

_INSIDE = ".base_layer."


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


def effective_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """The weights that a model computes with, by name.

    Low-rank changes are added to what they change, so that merging them makes no difference. Adapters of other kinds
    stay what they are: weights beside the others.
    """
    weights: dict[str, Tensor] = dict(model.named_parameters())
    if not any(_INSIDE in name for name in weights):
        return weights
    from peft.tuners.lora import LoraLayer

    for place, module in model.named_modules():
        if isinstance(module, LoraLayer):
            own = {name: value for name, value in weights.items() if name.startswith(f"{place}.")}
            for name, value in own.items():
                del weights[name]
                if name.startswith(place + _INSIDE):
                    weights[name.replace(_INSIDE, ".")] = value
            active = () if module.merged or module.disable_adapters else module.active_adapters
            changes = [module.get_delta_weight(name) for name in active if name in module.r]
            weights[f"{place}.weight"] = sum(changes, start=weights[f"{place}.weight"].detach())
    return weights
