"""Gradient checkpointing of a frozen backbone, within one call.

Recomputation runs during the backward pass, outside the context that the forward pass ran in, possibly in
another thread. What the call carried is therefore captured with each layer and restored around its
recomputation. transformers checkpoints a layer only if its `training` flag is up; it is raised for that
question alone and is down again while the layer runs, so no dropout appears.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from softprompt.backbones.attention import carried, carrying, without_recording
from softprompt.errors import UnsupportedError

__all__ = ["checkpointed"]


@contextlib.contextmanager
def checkpointed(model: PreTrainedModel) -> Iterator[None]:
    """Checkpoint every layer of a model within a block; afterwards the model is as it was.

    Raises:
        UnsupportedError: If the model has no layers that can be checkpointed.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise UnsupportedError(f"{type(model).__name__} has no layers that gradient checkpointing can recompute.")
    names = ("training", "gradient_checkpointing", "_gradient_checkpointing_func")
    before = [{name: vars(layer)[name] for name in names if name in vars(layer)} for layer in layers]
    try:
        for layer in layers:
            layer.training, layer.gradient_checkpointing = True, True
            layer._gradient_checkpointing_func = functools.partial(_checkpoint, layer)
        yield
    finally:
        for layer, state in zip(layers, before, strict=True):
            for name in names:
                vars(layer).pop(name, None)
            vars(layer).update(state)


def _checkpoint(layer: GradientCheckpointingLayer, function: Callable[..., Any], *args: Any) -> Any:
    load = without_recording(carried())
    layer.training = False
    try:
        return checkpoint(
            function, *args, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), carrying(load))
        )
    finally:
        layer.training = True
