"""Copies of models whose tensors have shapes and no values: what computes with them takes no memory."""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeVar, final

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode

from softprompt.backbones.backbone import Backbone
from softprompt.backbones.offloading import is_offloaded
from softprompt.errors import UnsupportedError

__all__ = ["Weightless"]

T = TypeVar("T")

_MIB = 2**20


@final
class Weightless:
    """Makes copies that can compute with each other, and with real indices and masks.

    Whatever has values keeps them in the original; what is computed of a copy is known by its shape alone.
    """

    def __init__(self) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)

    @contextlib.contextmanager
    def copying(self) -> Iterator[None]:
        """Let `copy.deepcopy` make such copies in a block."""
        with FakeCopyMode(self._mode):
            yield

    def copy(self, original: T, *shared: object) -> T:
        """A copy; what is `shared` is not copied."""
        memo: dict[int, Any] = {id(one): one for one in shared}
        with self.copying():
            return copy.deepcopy(original, memo)

    def copy_backbone(self, backbone: Backbone, dtype: torch.dtype | None = None) -> Backbone:
        """A copy of a backbone, with its tokenizer and fingerprint.

        Args:
            backbone: The backbone.
            dtype: Of the copy's weights; None leaves each its own.

        Raises:
            UnsupportedError: If its weights are spread over processes or devices.
        """
        _check_whole(backbone)
        _ = backbone.fingerprint  # of the values, which the copy has not
        bare = copy.copy(backbone)
        vars(bare).pop("head", None)  # made of the model's parts, anew where it is asked for
        copied = self.copy(bare, backbone.tokenizer)
        if dtype is not None:
            _cast(copied.model, dtype)
        return copied


def _check_whole(backbone: Backbone) -> None:
    if backbone.sharded:
        raise UnsupportedError(
            f"{backbone.name} is spread over processes, where it is not known beforehand what a pass takes; load it"
            " whole, in one process, and say how many there will be: processes=N, sharded=True."
        )
    places: Counter[str] = Counter()
    for weight in backbone.model.parameters():
        places["in CPU memory or on disk" if weight.is_meta else f"on {weight.device}"] += weight.nbytes
    if len(places) > 1 or is_offloaded(backbone.model):
        found = ", ".join(f"{size / _MIB:,.0f} MiB {place}" for place, size in places.items())
        raise UnsupportedError(
            f"{backbone.name} keeps its weights in several places ({found}), where it is not known beforehand what a"
            " pass takes; load it whole, on one device: its passes take about as much on the device of most layers."
        )


def _cast(model: nn.Module, dtype: torch.dtype) -> None:
    """What `model.to(dtype)` does, which torch refuses where there are no values; tied weights stay tied."""
    cast: dict[int, Any] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and tensor.is_floating_point():
                    made = tensor.detach().to(dtype)
                    known = nn.Parameter(made, requires_grad=False) if isinstance(tensor, nn.Parameter) else made
                    tensors[name] = cast.setdefault(id(tensor), known)
