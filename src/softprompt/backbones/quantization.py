"""Frozen weights in fewer bits: prompts are trained and used through them, and the weights themselves never change.

torchao keeps them and computes with them; activations, embeddings, the output head and prompts stay as they are, and
gradients pass through to the prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from softprompt.config import choose
from softprompt.errors import MissingDependencyError, UnsupportedError

__all__ = ["Quantization", "held_bytes", "quantize"]

Quantization = Literal["int8", "nf4"]
"""`int8`: a scale for each output of a layer; `nf4`: 4 bits and a scale for 64 weights (Dettmers et al. 2023, §3)."""

_NF4_BLOCK, _NF4_SCALES = 64, 256


@torch.no_grad()
def quantize(model: PreTrainedModel, kind: str) -> None:
    """Replace the weights of a model's linear layers, but for its output head.

    Layers whose weights cannot be cut into whole blocks stay as they are.

    Args:
        model: The model, on its device.
        kind: How the weights are kept, a `Quantization`.

    Raises:
        ConfigError: If the kind is unknown.
        MissingDependencyError: Without torchao.
        UnsupportedError: If the model has no linear layers that can be quantised.
    """
    if kind not in get_args(Quantization):
        raise choose("quantisation", kind, get_args(Quantization))
    torchao = _torchao()
    layers = list(_layers(model, kind))
    if not layers:
        raise UnsupportedError(
            f"{type(model).__name__} has no linear layers that could be kept in {kind} (GPT-2's are convolutions); "
            "load it without quantize, or in bfloat16."
        )
    for layer in layers:
        if kind == "int8":
            torchao.quantize_(layer, torchao.Int8WeightOnlyConfig())
        else:
            held = torchao.to_nf4(layer.weight.detach(), block_size=_NF4_BLOCK, scaler_block_size=_NF4_SCALES)
            layer.weight = nn.Parameter(held, requires_grad=False)


def held_bytes(model: nn.Module) -> int:
    """Bytes that a model's parameters take up, those inside quantised ones among them; shared ones count once."""
    return sum(_bytes(parameter) for parameter in model.parameters())


def _bytes(tensor: Tensor) -> int:
    if hasattr(tensor, "__tensor_flatten__"):
        parts, _ = tensor.__tensor_flatten__()
        return sum(_bytes(getattr(tensor, name)) for name in parts)
    return tensor.numel() * tensor.element_size()


def _layers(model: PreTrainedModel, kind: str) -> Iterator[nn.Linear]:
    head = model.get_output_embeddings()
    for module in model.modules():
        if type(module) is nn.Linear and module is not head:
            whole_blocks = module.weight.numel() % (_NF4_BLOCK * _NF4_SCALES) == 0
            if kind == "int8" or whole_blocks:
                yield module


def _torchao() -> Any:
    try:
        import torchao.quantization
    except ImportError as error:
        raise MissingDependencyError("quantize needs torchao: pip install 'softprompt[quantize]'") from error
    return torchao.quantization
