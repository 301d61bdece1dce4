"""Moving rows of a batch about: prompts in, padding to one side, and which column is which token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softprompt.errors import ShapeError

__all__ = ["Side", "insert_prompt", "last_column_before_next", "pad_marks", "pad_rows", "repad", "token_columns"]

Side = Literal["left", "right"]


def insert_prompt(
    prompt: Float[Tensor, "batch prompt dim"],
    prompt_mask: Bool[Tensor, "batch prompt"],
    inputs: Float[Tensor, "batch seq dim"],
    inputs_mask: Bool[Tensor, "batch seq"],
    *,
    at: Int[Tensor, "batch prompt"],
    padding_side: Side = "right",
) -> tuple[Float[Tensor, "batch joined dim"], Bool[Tensor, "batch joined"], Int[Tensor, "batch seq"]]:
    """Insert one soft prompt per row, and move all padding to one side.

    Rows may carry prompts of different lengths: pad the shorter ones and say so in `prompt_mask`. Real positions
    come out contiguous, so a row scores the same alone and in a mixed batch, also under relative position biases
    (Raffel et al. 2020, §2.1).

    Args:
        prompt: Prompt vectors, in the backbone's dtype and device.
        prompt_mask: True where a prompt vector is real.
        inputs: Embedded tokens, from the frozen embedding table.
        inputs_mask: True where a token is real.
        at: Before which of its row's tokens each prompt vector goes: 0 prepends, the number of tokens appends. Those
            before the same token keep their order.
        padding_side: Where padding ends up.

    Returns:
        The joined embeddings, without columns that are padding in every row; their mask; and in which joined
        column each column of `inputs` came to stand (-1 for padding).

    Raises:
        ShapeError: If an `at` lies outside `[0, tokens of the row]`.

    References:
        Lester et al. 2021, §2.
    """
    tokens = inputs_mask.sum(-1)  # [batch]
    if bool((((at < 0) | (at > tokens[:, None])) & prompt_mask).any()):
        raise ShapeError(f"A prompt can go before token 0 to {tokens.tolist()} of its row, but got {at.tolist()}.")
    mask = torch.cat([prompt_mask, inputs_mask], dim=1)  # [batch, prompt+seq]
    index = inputs_mask.long().cumsum(-1) - 1  # [batch, seq]: which token of its row
    place = torch.cat([2 * at, 2 * index + 1], dim=1)
    order = _order(place, mask, padding_side)  # [batch, prompt+seq]
    width = int(mask.sum(-1).max())
    kept = order[:, order.shape[1] - width :] if padding_side == "left" else order[:, :width]
    joined = torch.cat([prompt, inputs], dim=1).gather(1, kept[:, :, None].expand(-1, -1, inputs.shape[2]))
    came_to = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    columns = came_to[:, prompt.shape[1] :] - (order.shape[1] - width if padding_side == "left" else 0)
    return joined, mask.gather(1, kept), columns.masked_fill(~inputs_mask, -1)


def repad(
    ids: Int[Tensor, "batch seq"], mask: Bool[Tensor, "batch seq"], *, side: Side
) -> tuple[Int[Tensor, "batch seq"], Bool[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    """Move the padding of token ids to one side.

    Returns:
        The ids, their mask, and in which column each column came to stand (-1 for padding).
    """
    columns = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    order = _order(columns, mask, side)
    came_to = torch.empty_like(order).scatter_(1, order, columns)
    return ids.gather(1, order), mask.gather(1, order), came_to.masked_fill(~mask, -1)


def _order(place: Int[Tensor, "batch cols"], mask: Bool[Tensor, "batch cols"], side: Side) -> Int[Tensor, "batch cols"]:
    """The order that sorts real columns by place and sends padding to one side."""
    outside = place.max() + 1 if side == "right" else place.min() - 1
    return place.where(mask, outside).argsort(dim=1, stable=True)


def token_columns(mask: Bool[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
    """Which of its row's tokens stands in each column, from 0; padding before the first counts as 0."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def last_column_before_next(
    columns: Int[Tensor, "batch seq"], joined_mask: Bool[Tensor, "batch joined"]
) -> Int[Tensor, "batch seq"]:
    """From which joined column each token's successor is predicted.

    That is the column just before the successor's: the token's own, or the last virtual token between the two.
    For a row's last token it is the row's last real column.

    Args:
        columns: Where each token stands in the joined batch, -1 for padding.
        joined_mask: True where a joined column is real.
    """
    width = joined_mask.shape[1]
    places = torch.arange(width, device=columns.device)
    end = places.where(joined_mask, -1).max(dim=1).values + 1  # [batch]: one past the last real column
    real = columns.where(columns >= 0, width + 1)
    later = real.flip(1).cummin(dim=1).values.flip(1)  # [batch, seq]: the next real column at or after each
    following = torch.cat([later[:, 1:], torch.full_like(later[:, :1], width + 1)], dim=1)
    following = following.minimum(end[:, None])
    return (following - 1).where(columns >= 0, 0)


def pad_marks(rows: Sequence[Sequence[int]]) -> Int[Tensor, "batch marks"]:
    """The token indices of each row's marks as one tensor, -1 where a row has fewer than another."""
    width = max(map(len, rows), default=0)
    padded = [[*marks, *[-1] * (width - len(marks))] for marks in rows]
    return torch.tensor(padded, dtype=torch.long).view(len(rows), width)


def pad_rows(rows: list[list[int]], *, fill: int, side: Side = "right") -> tuple[Tensor, Tensor]:
    """Lists of ids as one tensor `[batch, seq]` and its mask."""
    width = max((len(row) for row in rows), default=0)
    ids = torch.full((len(rows), width), fill, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for index, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[index, place] = torch.tensor(row, dtype=torch.long)
        mask[index, place] = True
    return ids, mask
