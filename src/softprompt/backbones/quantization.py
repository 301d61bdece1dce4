"""Frozen weights in fewer bits: prompts are trained and used through them, and the weights themselves never change.

torchao keeps them and computes with them; activations, embeddings, heads and prompts stay as they are, and
gradients pass through to the prompts.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, TypeGuard, get_args

import torch
from torch import nn
from transformers import PreTrainedModel

from softprompt.backbones.offloading import is_offloaded
from softprompt.config import choose
from softprompt.errors import MissingDependencyError, UnsupportedError

__all__ = ["Quantization", "check_quantization", "quantize"]

Quantization = Literal["int8", "nf4"]
"""`int8`: a scale for each output of a layer; `nf4`: 4 bits and a scale for 64 weights (Dettmers et al. 2023, §3)."""

_NF4_BLOCK, _NF4_SCALES = 64, 256


def check_quantization(kind: str) -> None:
    """Refuse what cannot be done before a model is loaded for it.

    Raises:
        ConfigError: If the kind is unknown.
        MissingDependencyError: Without torchao.
    """
    if kind not in get_args(Quantization):
        raise choose("quantisation", kind, get_args(Quantization))
    _torchao()


@torch.no_grad()
def quantize(model: PreTrainedModel, kind: str, *, keep: Collection[nn.Module] = ()) -> None:
    """Replace the weights of a model's linear layers, but for its output head.

    Layers whose weights cannot be cut into whole blocks stay as they are.

    Args:
        model: The model, on its device.
        kind: How the weights are kept, a `Quantization`.
        keep: Further modules that stay as they are, with all that is in them.

    Raises:
        ConfigError: If the kind is unknown.
        MissingDependencyError: Without torchao.
        UnsupportedError: If the model has no linear layers that can be quantised, or keeps weights elsewhere.
    """
    check_quantization(kind)
    if is_offloaded(model):
        raise UnsupportedError(
            f"{type(model).__name__} keeps weights in CPU memory or on disk (device_map), which cannot be quantised;"
            " put all of it on devices, or drop quantize."
        )
    torchao = _torchao()
    kept = {module for one in (model.get_output_embeddings(), *keep) if one is not None for module in one.modules()}
    layers = [module for module in model.modules() if module not in kept and _fits(module, kind)]
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


def _fits(module: nn.Module, kind: str) -> TypeGuard[nn.Linear]:
    if type(module) is not nn.Linear:
        return False
    return kind == "int8" or module.weight.numel() % (_NF4_BLOCK * _NF4_SCALES) == 0


def _torchao() -> Any:
    try:
        import torchao.quantization
    except ImportError as error:
        raise MissingDependencyError("quantize needs torchao: pip install 'softprompt[quantize]'") from error
    return torchao.quantization
