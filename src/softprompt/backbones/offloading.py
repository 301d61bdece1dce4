"""Weights that accelerate keeps in CPU memory or on disk (`device_map`), and brings where their layer computes.

Outside of that their places in the model are empty. What looks at weights asks here where they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate.hooks import AlignDevicesHook, SequentialHook
from torch import Tensor, nn
from transformers import PreTrainedModel

from softprompt.errors import BackboneError

__all__ = ["execution_device", "finding_weights", "is_offloaded", "kept_weight"]


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


@contextmanager
def finding_weights(name: str, model: nn.Module) -> Iterator[None]:
    """A block in which the layers of a model compute for the first time.

    Args:
        name: The model's.
        model: Its layers.

    Raises:
        BackboneError: If nothing is kept where a layer looks for its weight: accelerate keeps a tied one once.
    """
    try:
        yield
    except KeyError as error:
        if error.args[0] not in dict(model.named_parameters(remove_duplicate=False)):
            raise
        raise BackboneError(
            f"{name}: by this device_map, {error.args[0]} is kept where its layer does not find it; give all parts that"
            " share a table the same place, or say auto."
        ) from error


def _hooks(module: nn.Module) -> list[AlignDevicesHook]:
    hook = getattr(module, "_hf_hook", None)
    hooks = hook.hooks if isinstance(hook, SequentialHook) else [hook]
    return [one for one in hooks if isinstance(one, AlignDevicesHook)]
