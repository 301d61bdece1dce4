"""The one attention function: a prompt's keys and values before a layer's own.

transformers lets a library register an attention function by name, and beside it the function that builds the
masks. Both are registered here once for every stock kernel that can be wrapped. Outside a call that carries
something they hand over unchanged. Inside one (see `carrying`),

- the *mask function* (`masks`) puts the prompt's columns in front of the stock mask;
- the *attention function* records a layer's keys and values when asked, and concatenates the prompt's.

Who looks on (`onlooker`) is told the weights that the same kernel gives, and may hide columns from it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from softprompt.backbones.carrying import Carried, carried, onlooker, repeat_rows
from softprompt.backbones.masks import additive_mask, joint_mask
from softprompt.backbones.prompt_cache import bank_rows
from softprompt.errors import UnsupportedError

__all__ = ["KERNELS", "precise_sdpa", "prepare_head", "wrapped"]

KERNELS = ("sdpa", "eager")
"""The stock kernels that take a mask of any shape, which injection needs."""
_HALVES = (torch.bfloat16, torch.float16)


def wrapped(kernel: str) -> str:
    """The name under which the attention function that wraps a stock kernel is registered."""
    return f"softprompt_{kernel}"


def prepare_head(head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Forward pre-hook of an output head: let only the wanted positions through, as one row.

    Where all are wanted, a view of some columns is copied, as torch would multiply it row by row: generation wants a
    batch's last one.
    """
    load = carried()
    if load is None or not args:
        return None
    hidden, *rest = args  # [batch, seq, hidden]
    if load.kept is None:
        return None if hidden.is_contiguous() else (hidden.contiguous(), *rest)
    return (hidden[load.kept.to(hidden.device)].unsqueeze(0), *rest)  # [1, kept, hidden]


def _attend(
    kernel: Callable[..., Any],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    load = carried()
    if load is not None and load.recorder is not None:
        load.recorder.calls.append((module, key, value))
    if load is not None and load.injection is not None:
        key, value, attention_mask, options = _inject(load, module, key, value, attention_mask, options)
    if (looker := onlooker()) is not None:
        if looker.hide is not None:
            attention_mask = _hidden_from(looker.hide, module, attention_mask, query.shape[1])
        if looker.watch is not None:
            looker.watch(module, _weights(kernel, module, query, key, attention_mask, options))
    return kernel(module, query, key, value, attention_mask, **options)


def _hidden_from(
    hide: Callable[[nn.Module, Tensor, int], Tensor], module: nn.Module, mask: Tensor | None, heads: int
) -> Tensor:
    if mask is None:
        raise UnsupportedError(
            f"{type(module).__name__} takes no mask from transformers' mask functions, so nothing can be hidden from"
            " it; leave out rows of the prompt instead of layers and heads."
        )
    return hide(module, mask, heads)


def _weights(
    kernel: Callable[..., Any],
    module: nn.Module,
    query: Float[Tensor, "batch heads seq head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    mask: Tensor | None,
    options: dict[str, Any],
) -> Float[Tensor, "batch heads seq keys"]:
    """What a kernel multiplies values by: what it gives for values that are unit vectors, one for each column."""
    units = torch.eye(key.shape[2], dtype=key.dtype, device=key.device).expand(*key.shape[:2], -1, -1)
    weights: Tensor = kernel(module, query, key, units, mask, **options)[0]  # [batch, seq, heads, keys]
    return weights.transpose(1, 2)


def _inject(
    load: Carried,
    module: nn.Module,
    key: Float[Tensor, "batch kv_heads seq head_dim"],
    value: Float[Tensor, "batch kv_heads seq head_dim"],
    mask: Tensor | None,
    options: dict[str, Any],
) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
    """Put the prompt's keys and values before a layer's own.

    The mask already has the prompt's columns in front. A layer to which no prompt gives anything drops them.
    """
    injection = load.injection
    assert injection is not None
    site = injection.sites.get(module)
    prompt = injection.columns.shape[1]
    # a call may have further caches, of an assistant or without guidance, which hold no prompts
    in_front = bool(injection.stored) and mask is not None and key.shape[2] == mask.shape[-1]
    stored = in_front and site in injection.stored
    if in_front and not stored:  # borrowed from another layer, whose cache begins with what its own prompt gives
        key, value = key[:, :, prompt:], value[:, :, prompt:]
    own = key.shape[2] - (prompt if stored else 0)
    if mask is None or site is None or mask.shape[-1] < prompt + own:
        raise UnsupportedError(
            f"{type(module).__name__} does not take its mask from transformers' mask functions, or its cache is of"
            f" another call (expected {prompt + own} columns, got {None if mask is None else mask.shape[-1]}); use the"
            " concatenation pass."
        )
    if site not in injection.keys:
        return key, value, mask[..., prompt:], options
    if not stored:
        rows = repeat_rows(injection.rows, key.shape[0]).to(key.device)
        bank_keys, bank_values = injection.keys[site].to(key), injection.values[site].to(value)
        key = torch.cat([bank_rows(bank_keys, rows), key], dim=2)  # [batch, kv_heads, prompt+seq, head_dim]
        value = torch.cat([bank_rows(bank_values, rows), value], dim=2)
    if site in injection.hidden:
        columns = repeat_rows(injection.hidden[site], key.shape[0]).to(mask.device)
        mask = _hide(mask, columns[:, None, None, :])
    bias = options.get("position_bias")
    if bias is not None:
        options = {**options, "position_bias": nn.functional.pad(bias, (prompt, 0))}
    if load.trace is not None:
        load.trace.reads.append(site)
    return key, value, mask, options


def _hide(mask: Tensor, columns: Bool[Tensor, "batch 1 1 prompt"]) -> Tensor:
    """Mask, in the prompt's part of a joint mask, what a layer's prompts leave empty."""
    prompt = columns.shape[-1]
    front, own = mask[..., :prompt], mask[..., prompt:]
    if mask.dtype == torch.bool:
        return torch.cat([front & columns, own], dim=-1)
    return torch.cat([front.masked_fill(~columns, torch.finfo(mask.dtype).min), own], dim=-1)


def _sdpa_attention(module: nn.Module, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
    return _attend(precise_sdpa, module, *args, **options)


def precise_sdpa(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """The stock kernel; on a CPU, what is to be differentiated is computed in float32.

    The kernel's backward takes several times as long for bfloat16 there (`python -m benchmarks.precision`). Queries,
    keys and values are then held in float32 until it, too.
    """
    kernel, given = AttentionInterface()["sdpa"], (query, key, value)
    learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
    halved = value.dtype in _HALVES or torch.is_autocast_enabled("cpu")  # which casts float32 ones only here
    if not (learns and halved and query.device.type == "cpu"):
        return kernel(module, *given, attention_mask, **options)
    bias = options.get("position_bias")
    if bias is not None:
        options = {**options, "position_bias": bias.float()}
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.float()
    with torch.autocast("cpu", enabled=False):
        out, weights = kernel(module, *(tensor.float() for tensor in given), attention_mask, **options)
    return out.to(value.dtype), weights


def _eager_attention(module: nn.Module, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
    return _attend(_eager_kernel(type(module)), module, *args, **options)


def _eager_kernel(kind: type[nn.Module]) -> Callable[..., Any]:
    """The eager attention of a model's own file: every modelling file of transformers has its own."""
    for base in kind.__mro__:
        kernel = vars(sys.modules[base.__module__]).get("eager_attention_forward")
        if kernel is not None:
            return kernel
    raise UnsupportedError(f"{kind.__name__} has no eager attention function; load the model with attention='sdpa'.")


AttentionInterface.register(wrapped("sdpa"), _sdpa_attention)
AttentionInterface.register(wrapped("eager"), _eager_attention)
AttentionMaskInterface.register(wrapped("sdpa"), joint_mask)
AttentionMaskInterface.register(wrapped("eager"), additive_mask)
