"""What each of several processes will hold of a backbone whose weights are spread over them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import final

from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from softprompt.errors import UnsupportedError

__all__ = ["Parts", "parts_of"]


@final
@dataclass(frozen=True, kw_only=True)
class Parts:
    """Bytes of one process's weights (FSDP2, `fully_shard` of every layer and of the whole model).

    Attributes:
        kept: Its part of each weight, the same in every process: rows are shared out evenly, the last filled up.
        buffers: What no process shares.
        gathered: Beside that, while layers compute: what stands around them, a layer, and one that arrives.
        gathering: Beside that, before the first layer computes: what stands around the layers, as it arrived and as it
            computes, and the layer that arrives.
    """

    kept: int
    buffers: int
    gathered: int
    gathering: int


def parts_of(model: PreTrainedModel, processes: int, *, offload: bool = False, gloo: bool = False) -> Parts:
    """What a process would hold of a model that is here whole.

    Args:
        model: The model.
        processes: How many would share it.
        offload: Whether parts are kept in CPU memory: a layer's part then comes to the device before it is gathered.
        gloo: Whether processes talk by gloo, which puts a message together by itself before it hands it over.

    Raises:
        UnsupportedError: If it has no layers that can be gathered one by one.
    """
    layers = {name for name, module in model.named_modules() if isinstance(module, GradientCheckpointingLayer)}
    if not layers:
        raise UnsupportedError(f"{type(model).__name__} has no layers that could be gathered one by one.")
    kept: Counter[str] = Counter()
    for name, weight in model.named_parameters():
        kept[_layer(name, layers)] += _part(weight, processes)
    around = kept.pop("", 0)
    layer = max(kept.values())
    arriving = layer * (processes + offload + processes * gloo)
    return Parts(
        kept=around + kept.total(),
        buffers=sum(buffer.nbytes for buffer in model.buffers()),
        gathered=around * processes + layer * processes + arriving,
        gathering=around * processes * 2 + arriving,
    )


def _layer(name: str, layers: set[str]) -> str:
    """The innermost layer that a weight is of; nothing if it stands around them."""
    places = [name[:end] for end, letter in enumerate(name) if letter == "."]
    return next((place for place in reversed(places) if place in layers), "")


def _part(weight: Tensor, processes: int) -> int:
    rows = len(weight)
    return -(-rows // processes) * (weight.nbytes // rows)
