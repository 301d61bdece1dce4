"""Backbones whose weights are spread over processes (FSDP2): each holds a part, and gathers a layer while it computes.

transformers shards a model before it reads its weights, so each process reads its own part of each file. Whatever looks
at weights outside of the model's own pass asks here, because a process has them neither whole nor always.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.distributed import DistributedConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from softprompt.backbones.launch import process_count
from softprompt.backbones.offloading import execution_device
from softprompt.errors import UnsupportedError

__all__ = [
    "device_of",
    "gather_outer",
    "is_sharded",
    "look_up",
    "own_parameters",
    "reached_together",
    "sample_values",
    "sharding_of",
    "silent_on_plans",
]


def sharding_of(kind: Any, config: PreTrainedConfig, *, offload: bool, trust_remote_code: bool) -> DistributedConfig:
    """How transformers is to spread a model over all processes: layer by layer.

    Args:
        kind: Its auto class.
        config: Its configuration.
        offload: Whether each process keeps its part in CPU memory.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        UnsupportedError: If it has no layers that can be gathered one by one.
    """
    with torch.device("meta"):
        model = kind.from_config(config, trust_remote_code=trust_remote_code)
    places = {name for name, module in model.named_modules() if isinstance(module, GradientCheckpointingLayer)}
    if not places:
        raise UnsupportedError(
            f"{type(model).__name__} has no layers that could be gathered one by one; load it elsewhere."
        )
    numberless = {".".join("*" if part.isdigit() else part for part in name.split(".")) for name in places}
    return DistributedConfig(
        fsdp_size=process_count(),
        fsdp_plan=dict.fromkeys(sorted(numberless), "free_full_weight"),
        fsdp_cpu_offload=offload,
    )


@contextmanager
def silent_on_plans() -> Iterator[None]:
    """Drop what transformers says of the names that its own plans have for other families' layers."""
    logger = logging.getLogger("transformers.distributed.mixin")

    def says_more(record: logging.LogRecord) -> bool:
        return "match nothing in" not in record.getMessage()

    logger.addFilter(says_more)
    try:
        yield
    finally:
        logger.removeFilter(says_more)


def is_sharded(model: nn.Module) -> bool:
    """Whether a model's weights are spread over processes."""
    return isinstance(model, FSDPModule)


def device_of(table: nn.Module) -> torch.device:
    """Where an embedding table computes, wherever its weight is kept."""
    weight: Any = table.weight
    if isinstance(weight, DTensor):
        return _mesh_device(weight)
    device: torch.device = weight.device
    return (execution_device(table) or device) if weight.is_meta else device


def _mesh_device(weight: DTensor) -> torch.device:
    """This process's device, beside which its part of a weight may be kept in CPU memory."""
    kind = weight.device_mesh.device_type
    return torch.device("cpu") if kind == "cpu" else torch.device(kind, torch.accelerator.current_device_index())


def gather_outer(model: nn.Module) -> None:
    """Gather what stands around the layers: a part of the model, such as its encoder, can then be called by itself."""
    if isinstance(model, FSDPModule):
        model.unshard()


def look_up(model: PreTrainedModel, ids: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape dim"]:
    """Tokens' rows of the embedding table, as the model's own pass takes them; in every process at once."""
    table: nn.Module = model.get_input_embeddings()
    if not is_sharded(model):
        rows: Tensor = table(ids)
        return rows
    (place,) = (name for name, module in model.named_modules() if module is table)
    holders = (model.get_submodule(place[:end]) for end in _ends(place))
    next(holder for holder in holders if isinstance(holder, FSDPModule)).unshard()
    looked_up: Tensor = table.forward(ids)  # a call would begin a pass
    return looked_up


def _ends(place: str) -> list[int]:
    """Where the names of a module and of those around it end, the outermost last."""
    return [len(place), *(i for i in range(len(place) - 1, -1, -1) if place[i] == "."), 0]


def own_parameters(model: PreTrainedModel) -> dict[str, Tensor]:
    """A model's parameters by name, each once, also where sharding or offloading keeps tied ones by themselves."""
    sharded = is_sharded(model)
    for module in model.modules():
        if sharded and isinstance(module, FSDPModule):
            module.reshard()
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    named = model.named_parameters()
    return {name: weight for name, weight in named if not (name in tied and (sharded or weight.is_meta))}


def sample_values(
    weights: Sequence[Tensor], places: Sequence[Int[Tensor, " values"]]
) -> list[Float[Tensor, " values"]]:
    """Some values of each weight, on the CPU, in float32; of sharded ones without gathering them, in every process.

    Args:
        weights: The weights.
        places: For each of them, indices into its values one behind the other.
    """
    own = [_own_values(weight.detach(), at) for weight, at in zip(weights, places, strict=True)]
    spread = next((weight for weight in weights if isinstance(weight, DTensor)), None)
    if spread is None:
        return own
    summed = torch.cat(own).to(_mesh_device(spread))
    torch.distributed.all_reduce(summed, group=spread.device_mesh.get_group())
    return list(summed.cpu().split([len(at) for at in places]))


def _own_values(weight: Tensor, at: Int[Tensor, " values"]) -> Float[Tensor, " values"]:
    """What this process holds of some values; 0 where another one does."""
    if not isinstance(weight, DTensor):
        return weight.flatten()[at.to(weight.device)].float().cpu()
    rows = weight.shape[0]
    most = -(-rows // weight.device_mesh.size())  # each process but the last ones has so many rows
    local = weight.to_local().flatten()
    index = at - min(rows, most * weight.device_mesh.get_local_rank()) * (weight.numel() // rows)
    mine = (index >= 0) & (index < len(local))
    values = torch.zeros(len(at))
    values[mine] = local[index[mine].to(local.device)].float().cpu()
    return values


def reached_together(parts: Sequence[Tensor], output: Tensor) -> list[Tensor]:
    """Tensors from inside a pass, whose gradients go back through its output too, where they are zero.

    Layers gather their weights for the backward pass when a gradient reaches their output. What was taken from inside
    the last layer would come to it without.
    """
    return list(_Reached.apply(output, *parts))


class _Reached(torch.autograd.Function):
    """The tensors behind the first as they are; the first gets a gradient of zeros."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
        ctx.like = (output.shape, output.dtype, output.device)
        return tuple(part.view_as(part) for part in parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        shape, dtype, device = ctx.like
        return torch.zeros(shape, dtype=dtype, device=device), *gradients
