"""The masks of a pass in which prompts are injected: the stock mask, with one column per virtual token in front.

Sliding windows, hidden positions and rows with shorter prompts are settled here, once per pass, not per layer.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers.masking_utils import sdpa_mask

from softprompt.backbones.carrying import carried, onlooker, repeat_rows

__all__ = ["additive_mask", "joint_mask"]

_WHOLE = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
"""Options of a stock mask that is written out, also where a kernel could do without."""


def joint_mask(
    *,
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    **options: Any,
) -> Tensor | None:
    """A boolean mask `[batch, 1, seq, prompt+seq]`; the stock mask (or None) if nothing is injected."""
    stock = dict(options, batch_size=batch_size, q_length=q_length, kv_length=kv_length, q_offset=q_offset)
    stock.update(attention_mask=attention_mask, local_size=local_size)
    load = carried()
    if load is None or (load.injection is None and load.branches is None):
        looker = onlooker()
        whole = {} if looker is None or looker.hide is None else _WHOLE
        return sdpa_mask(**{**stock, **whole})
    if load.trace is not None and local_size is not None:
        load.trace.windows.append((local_size, options["mask_function"]))
    own = sdpa_mask(**{**stock, **_WHOLE})
    assert own is not None
    if load.branches is not None:
        own = _apart(own, load.branches.to(own.device))
    if load.injection is None:
        return own
    injection = load.injection
    columns = repeat_rows(injection.columns, batch_size).to(own.device)[:, None, None, :]  # [batch, 1, 1, prompt]
    if not injection.causal:
        front = columns.expand(-1, 1, q_length, -1)
        return torch.cat([front.expand(-1, own.shape[1], -1, -1), own], dim=-1)
    starts = repeat_rows(injection.starts, batch_size).to(own.device)[:, None]  # [batch, 1]
    tokens = _token_index(batch_size, q_length, q_offset, attention_mask, own.device)  # [batch, seq]
    lengths = columns.sum(-1)[:, 0]  # [batch, 1]
    front = columns & (tokens >= starts)[:, None, :, None]  # [batch, 1, seq, prompt]
    if local_size is not None:
        queries = tokens + lengths * (tokens >= starts)  # [batch, seq], in positions
        places = starts + torch.arange(columns.shape[-1], device=own.device)  # [batch, prompt]
        front = front & (queries[:, :, None] - places[:, None, :] < local_size)[:, None]
        if bool((starts > 0).any()):
            kv_offset = options.get("kv_offset", 0)
            keys = _token_index(batch_size, kv_length, kv_offset, attention_mask, own.device)
            keys = keys + lengths * (keys >= starts)
            own = own & (queries[:, :, None] - keys[:, None, :] < local_size)[:, None]
    return torch.cat([front.expand(-1, own.shape[1], -1, -1), own], dim=-1)


def _apart(own: Bool[Tensor, "batch 1 seq total"], branches: Int[Tensor, "batch seq"]) -> Tensor:
    """Hide the last positions, those of this call, from those of another branch."""
    before = own.shape[-1] - branches.shape[1]
    keys = branches[:, None, :]
    same = ((branches[:, :, None] == keys) | (keys == 0))[:, None]
    return torch.cat([own[..., :before].expand(same.shape[0], -1, -1, -1), own[..., before:] & same], dim=-1)


def additive_mask(*, dtype: torch.dtype = torch.float32, **options: Any) -> Tensor | None:
    """The same as what is added to attention's logits, for kernels that know no other."""
    return _additive(joint_mask(**{**options, "allow_is_causal_skip": False}), dtype)


def _token_index(
    batch: int, length: int, offset: int | Tensor, attention_mask: Tensor | None, device: torch.device
) -> Int[Tensor, "batch seq"]:
    """Which of its row's own tokens stands in each column, counted from 0; padding is clamped to 0."""
    columns = torch.arange(length, device=device) + offset
    if attention_mask is None:
        return columns.expand(batch, -1)
    counted = attention_mask.long().cumsum(-1) - 1  # [batch, total]
    beyond = columns.clamp(max=counted.shape[1] - 1)
    return (counted[:, beyond] + (columns - beyond)).clamp(min=0)


def _additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if mask is None:
        return None
    return torch.zeros((), dtype=dtype, device=mask.device).where(mask, torch.finfo(dtype).min)
