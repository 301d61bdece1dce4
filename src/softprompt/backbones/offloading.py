"""Weights that accelerate keeps in CPU memory or on disk (`device_map`), and brings where their layer computes.

Outside of that their places in the model are empty. What looks at weights asks here where they are.
"""

from __future__ import annotations

import torch
from accelerate.hooks import AlignDevicesHook, SequentialHook
from torch import Tensor, nn
from transformers import PreTrainedModel

__all__ = ["execution_device", "is_offloaded", "kept_weight"]


def kept_weight(model: PreTrainedModel, name: str, weight: Tensor) -> Tensor:
    """A parameter by its name, from where it is kept: a view of its file, if that is on disk."""
    if not weight.is_meta:
        return weight
    place, _, leaf = name.rpartition(".")
    maps = (hook.weights_map for hook in _hooks(model.get_submodule(place)))
    return next((weights[leaf] for weights in maps if weights is not None), weight)


def is_offloaded(model: nn.Module) -> bool:
    """Whether some weights are kept elsewhere than in their places."""
    return any(weight.is_meta for weight in model.parameters())


def execution_device(module: nn.Module) -> torch.device | None:
    """Where a module computes whose weights are elsewhere; None if nobody brings them."""
    found = next((hook.execution_device for hook in _hooks(module)), None)
    return None if found is None else torch.device(found)


def _hooks(module: nn.Module) -> list[AlignDevicesHook]:
    hook = getattr(module, "_hf_hook", None)
    hooks = hook.hooks if isinstance(hook, SequentialHook) else [hook]
    return [one for one in hooks if isinstance(one, AlignDevicesHook)]
