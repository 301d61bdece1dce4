"""Gradient checkpointing of a frozen backbone, within one call.

Recomputation runs during the backward pass, outside the context that the forward pass ran in, possibly in
another thread. What the call carried is therefore captured with each layer and restored around its
recomputation. transformers' own switch would put layers in training mode, and all threads that share the model
with them; instead each layer's forward is wrapped, which takes effect in the calls that ask for it alone.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from softprompt.backbones.carrying import carried, carrying, without_recording
from softprompt.errors import UnsupportedError

__all__ = ["checkpointed"]

_RECOMPUTED: contextvars.ContextVar[bool] = contextvars.ContextVar("softprompt_recomputed", default=False)
_LOCK = threading.Lock()
_CALLS: weakref.WeakKeyDictionary[PreTrainedModel, int] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def checkpointed(model: PreTrainedModel) -> Iterator[None]:
    """Checkpoint every layer of a model within a block; after the last such block the model is as it was.

    Raises:
        UnsupportedError: If the model has no layers that can be checkpointed.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise UnsupportedError(f"{type(model).__name__} has no layers that gradient checkpointing can recompute.")
    with _LOCK:
        _CALLS[model] = _CALLS.get(model, 0) + 1
        if _CALLS[model] == 1:
            for layer in layers:
                layer.forward = _Checkpointed(layer.forward, vars(layer).get("forward"))
    token = _RECOMPUTED.set(True)
    try:
        yield
    finally:
        _RECOMPUTED.reset(token)
        with _LOCK:
            _CALLS[model] -= 1
            if not _CALLS[model]:
                for layer in layers:
                    layer.forward.restore(layer)


class _Checkpointed:
    """A layer's forward that is recomputed in the backward pass, in calls that ask for it."""

    def __init__(self, forward: Callable[..., Any], own: Callable[..., Any] | None) -> None:
        self._forward = forward
        self._own = own

    def __call__(self, *args: Any, **options: Any) -> Any:
        if not _RECOMPUTED.get():
            return self._forward(*args, **options)
        load = without_recording(carried())
        return checkpoint(
            functools.partial(self._forward, **options),
            *args,
            use_reentrant=False,
            preserve_rng_state=False,  # nothing in a frozen layer is random, and the state is other threads' too
            context_fn=lambda: (contextlib.nullcontext(), carrying(load)),
        )

    def restore(self, layer: GradientCheckpointingLayer) -> None:
        """Give a layer back the forward that it had: one of its own (as accelerate's hooks set), or its class's."""
        del layer.forward
        if self._own is not None:
            layer.forward = self._own
