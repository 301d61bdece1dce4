"""A batch and its prompts become one call of the backbone.

Each prompt reaches its rows in one of two ways. *Injected*: as keys and values that every layer attends to;
they are the prompt itself (prefix tuning), or recorded by running the prompt's rows through the model once,
however many rows of the batch take it (the shared-prompt pass). *Inserted*: as rows among the input's own
embeddings (the concatenation pass), where the model reads both ways or the prompt stands behind the input.
A batch may hold both, and rows without a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Injection, Site
from softprompt.conditioning.padding import Side, insert_prompt, repad, token_columns
from softprompt.errors import LengthError, ShapeError
from softprompt.prompts import PromptTensors, placements

__all__ = ["Applied", "Joined", "KeysValues", "Rows", "check_target", "join", "record_rows"]

KeysValues = Mapping[Site, tuple[Tensor, Tensor]]
"""By site, one prompt's keys and values `[kv_heads, prompt, head_dim]`."""


@dataclass(frozen=True, kw_only=True)
class Applied:
    """One distinct prompt of a batch, in the backbone's dtype and device.

    Attributes:
        length: Virtual tokens.
        placement: Name of its placement.
        segments: Virtual tokens in each of its parts, if a template divides it.
        rows: Rows to insert, `[length, dim]`; None if it is injected.
        keys_values: What to inject; None if it is inserted.
        head: By name, weights of an encoder's head that its rows get; empty for the model's own.
    """

    length: int
    placement: str
    segments: tuple[int, ...] = ()
    rows: Tensor | None = None
    keys_values: KeysValues | None = None
    head: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of a batch, before their prompts.

    Attributes:
        ids: Token ids, `[batch, seq]`.
        mask: True where a token is real.
        index: Which of the batch's distinct prompts each row takes; -1 for none.
        inputs: How many of a row's tokens are input rather than target, `[batch]`.
        marks: Token indices of the template's marks, -1 where a row has fewer, `[batch, marks]`.
        branches: For several targets of one input, in a decoder-only model: which of them a token belongs to, from 1,
            or 0 for the input; each target's tokens stand together. None where a row has one target or none.
    """

    ids: Int[Tensor, "batch seq"]
    mask: Bool[Tensor, "batch seq"]
    index: Int[Tensor, " batch"]
    inputs: Int[Tensor, " batch"]
    marks: Int[Tensor, "batch marks"]
    branches: Int[Tensor, "batch seq"] | None = None


@dataclass(frozen=True, kw_only=True)
class Joined:
    """A batch with its prompts, ready for the model.

    Attributes:
        model_inputs: `input_ids` or `inputs_embeds`, `attention_mask`, and `position_ids` where they are taken.
        injection: Keys and values for the layers, or None.
        mask: True where a joined column is real, `[batch, joined]`.
        columns: In which joined column each column of the batch stands, `[batch, seq]`; -1 for padding.
        fixed: How many of a row's first tokens depend on no prompt in a causal model, and predict no target, `[batch]`.
        branches: Which of several targets of one input a column belongs to, as in `Rows`.
    """

    model_inputs: dict[str, Any]
    injection: Injection | None
    mask: Bool[Tensor, "batch joined"]
    columns: Int[Tensor, "batch seq"]
    fixed: Int[Tensor, " batch"]
    branches: Int[Tensor, "batch joined"] | None = None


def join(backbone: Backbone, prompts: Sequence[Applied], rows: Rows, *, side: Side = "right", room: int = 0) -> Joined:
    """Put every row's prompt where it belongs.

    Args:
        backbone: The frozen model.
        prompts: The batch's distinct prompts.
        rows: The batch.
        side: Where padding ends up when columns have to move.
        room: Positions that must remain free behind the longest row, for text to be generated.

    Raises:
        LengthError: If a row with its prompt is longer than the backbone's positions.
        ShapeError: If a row has another number of marks than its prompt has parts.
    """
    _check_room(backbone, prompts, rows, room)
    inserted = [p if p.rows is not None else None for p in prompts]
    injected = [p if p.keys_values is not None else None for p in prompts]
    if any(inserted):
        embeddings, mask, columns = _insert(backbone, inserted, rows, side)
        model_inputs: dict[str, Any] = {"inputs_embeds": embeddings}
    elif backbone.spec.kind == "decoder-only" and side == "right":
        ids, mask, columns = rows.ids, rows.mask, _where(rows.mask)
        model_inputs = {"input_ids": ids}
    else:
        ids, mask, columns = repad(rows.ids, rows.mask, side=side)
        model_inputs = {"input_ids": ids}
    model_inputs["attention_mask"] = mask.long()
    injection = _inject(backbone, injected, rows) if any(injected) else None
    branches = None if rows.branches is None else _moved(rows.branches, columns, mask.shape[1])
    if backbone.takes_positions and backbone.spec.kind == "decoder-only":
        positions = token_columns(mask) if branches is None else _branched_positions(mask, branches)
        if injection is not None:
            lengths = injection.columns.sum(-1, keepdim=True)
            positions = positions + lengths * (positions >= injection.starts[:, None])
        model_inputs["position_ids"] = positions
    fixed = _fixed(inserted, injection, rows)
    return Joined(
        model_inputs=model_inputs, injection=injection, mask=mask, columns=columns, fixed=fixed, branches=branches
    )


def record_rows(backbone: Backbone, prompts: Sequence[Tensor], *, checkpointing: bool = False) -> list[KeysValues]:
    """Run prompts of rows through the model, one batch row per prompt, and take each layer's keys and values.

    Args:
        backbone: A decoder-only model.
        prompts: Rows `[length, dim]` of each prompt.
        checkpointing: Whether layers are recomputed in the backward pass.
    """
    padded = nn.utils.rnn.pad_sequence(list(prompts), batch_first=True)  # [prompts, prompt, dim]
    lengths = [rows.shape[0] for rows in prompts]
    mask = torch.arange(padded.shape[1], device=padded.device) < torch.tensor(lengths, device=padded.device)[:, None]
    recorded = backbone.record(padded, mask, checkpointing=checkpointing)
    return [
        {site: (keys[i, :, :length], values[i, :, :length]) for site, (keys, values) in recorded.items()}
        for i, length in enumerate(lengths)
    ]


def given(backbone: Backbone, tensors: PromptTensors, layers: Sequence[int] | None = None) -> KeysValues:
    """A prefix's own keys and values, by site.

    Args:
        backbone: The model that it is for.
        tensors: The prefix.
        layers: To which layers of each stack it gives something; to all if None.
    """
    return {
        Site(stack, layer): (value[index, 0], value[index, 1])
        for stack, value in tensors.keys_values.items()
        for index, layer in enumerate(backbone.spec.stacks[stack].chosen(layers))
    }


def _where(mask: Bool[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
    return torch.arange(mask.shape[1], device=mask.device).expand_as(mask).where(mask, -1)


def _moved(
    values: Int[Tensor, "batch seq"], columns: Int[Tensor, "batch seq"], width: int
) -> Int[Tensor, "batch joined"]:
    """What belongs to each column of the batch, in the joined columns; 0 in those of prompts."""
    spread = values.new_zeros(len(values), width + 1)
    return spread.scatter(1, columns.where(columns >= 0, width), values)[:, :width]


def _branched_positions(
    mask: Bool[Tensor, "batch joined"], branches: Int[Tensor, "batch joined"]
) -> Int[Tensor, "batch joined"]:
    """Positions of real columns, 0 in padding: every branch goes on where what they share ends."""
    places = token_columns(mask)
    starts = places.where(branches != branches.roll(1, dims=1), 0).cummax(dim=1).values
    shared = (mask & (branches == 0)).sum(-1, keepdim=True)
    return places.where(branches == 0, shared + places - starts).masked_fill(~mask, 0)


def _check_room(backbone: Backbone, prompts: Sequence[Applied], rows: Rows, room: int) -> None:
    limit = backbone.spec.max_positions
    if limit is None:
        return
    lengths = torch.tensor([*(p.length for p in prompts), 0], device=rows.index.device)[rows.index]
    if backbone.spec.kind != "decoder-only":  # keys and values alone take no position there
        inserted = torch.tensor([*(p.rows is not None for p in prompts), False], device=rows.index.device)
        lengths = lengths * inserted[rows.index]
        room = 0
    tokens = rows.mask
    if rows.branches is not None:  # of which a row has as many positions as the longest needs
        tokens = rows.mask & (rows.branches == 0)
    total = tokens.sum(-1) + lengths  # [batch]
    worst = int(total.argmax()) if len(total) else 0
    if len(total) and int(total[worst]) + room > limit:
        raise LengthError(
            f"Row {worst} has {int(tokens[worst].sum())} tokens and a prompt of {int(lengths[worst])}"
            + (f", and {room} more are to be generated" if room else "")
            + f", but {backbone.name} has {limit} positions; shorten the input, or pass truncate=True."
        )


def check_target(backbone: Backbone, length: int) -> None:
    """Refuse a target that an encoder-decoder has no positions for.

    Args:
        backbone: An encoder-decoder.
        length: How many tokens its decoder has to read.

    Raises:
        LengthError: If they are more than the backbone's positions.
    """
    limit = backbone.spec.max_positions
    if limit is not None and length > limit:
        raise LengthError(f"A target has {length} tokens, but {backbone.name} has {limit} positions; shorten it.")


def _insert(
    backbone: Backbone, prompts: Sequence[Applied | None], rows: Rows, side: Side
) -> tuple[Tensor, Tensor, Tensor]:
    """The concatenation pass: rows of prompts among the embedded tokens."""
    embedded = backbone.embed(rows.ids)  # [batch, seq, dim]
    lengths = [0 if p is None else p.length for p in prompts]
    bank = embedded.new_zeros(0, embedded.shape[2])
    parts = [bank if p is None or p.rows is None else p.rows for p in prompts]
    padded = nn.utils.rnn.pad_sequence([*parts, bank], batch_first=True)  # [prompts+1, prompt, dim]
    known = torch.tensor([*lengths, 0], device=rows.ids.device)
    mask = torch.arange(padded.shape[1], device=rows.ids.device) < known[rows.index, None]  # [batch, prompt]
    at = _starts(prompts, rows, padded.shape[1])
    if backbone.spec.kind == "encoder-only":
        at = at.clamp(min=1)  # behind the token that the classification head reads
    prompt = padded.index_select(0, rows.index % len(padded))  # [batch, prompt, dim]
    return insert_prompt(prompt, mask, embedded, rows.mask, at=at, padding_side=side)


def _fixed(inserted: Sequence[Applied | None], injection: Injection | None, rows: Rows) -> Int[Tensor, " batch"]:
    """How many of a row's first tokens stand before its prompt, or before what predicts its target."""
    fixed = (rows.inputs - 1).clamp(min=0)
    if injection is not None:
        has_any = injection.columns.any(-1)
        fixed = injection.starts.where(has_any, fixed)
    if any(inserted):
        mine = torch.tensor([*(p is not None for p in inserted), False], device=rows.index.device)[rows.index]
        starts = _starts(inserted, rows, max(p.length for p in inserted if p is not None))[:, 0]
        # behind the whole input a prompt predicts the target itself
        fixed = starts.where(starts == rows.inputs, starts.minimum(fixed)).where(mine, fixed)
    return fixed


def _starts(prompts: Sequence[Applied | None], rows: Rows, width: int) -> Int[Tensor, "batch prompt"]:
    """Before which of its row's tokens each virtual token stands; 0 where there is none."""
    device = rows.inputs.device
    starts = torch.zeros(len(rows.inputs), width, dtype=torch.long, device=device)
    kinds = [None if p is None else (p.placement, p.segments if len(p.segments) > 1 else (width,)) for p in prompts]
    for kind in dict.fromkeys(kinds):
        if kind is None:
            continue
        placement, segments = kind
        mine = torch.tensor([*(other == kind for other in kinds), False], device=device)[rows.index]  # [batch]
        placed = placements.find(placement)(rows.inputs, rows.marks)  # [batch, parts]
        check_parts(placed[mine], len(segments))
        parts = [part for part, length in enumerate(segments) for _ in range(length)]
        at = placed[:, parts + parts[-1:] * (width - len(parts))]  # [batch, prompt]
        starts = at.where(mine[:, None], starts)
    return starts


def check_parts(placed: Int[Tensor, "batch places"], parts: int) -> None:
    """Refuse rows whose template has another number of places than their prompt has parts.

    Args:
        placed: Where the parts go, in tokens, or -1.
        parts: How many the prompt has.

    Raises:
        ShapeError: If a row has more or fewer.
    """
    found = (placed >= 0).sum(-1)
    if bool((found != parts).any()):
        raise ShapeError(
            f"A prompt of {parts} parts meets rows with {sorted(set(found.tolist()))} marks; render them with the"
            " template that it was made for, or give marks."
        )


def _inject(backbone: Backbone, prompts: Sequence[Applied | None], rows: Rows) -> Injection:
    """Stack the prompts' keys and values, padded to the longest, and say which row sees what."""
    present = [p for p in prompts if p is not None]
    widest = max(p.length for p in present)
    slot = {i: n for n, i in enumerate(i for i, p in enumerate(prompts) if p is not None)}
    device = rows.index.device
    slots = torch.tensor([*(slot.get(i, -1) for i in range(len(prompts))), -1], device=device)[rows.index]  # [batch]
    lengths = torch.tensor([*(p.length for p in present), 0], device=device)[slots]
    columns = torch.arange(widest, device=device) < lengths[:, None]  # [batch, prompt]
    # rows without any get one of their own: were they to look at another's, if only masked, its NaN would reach them
    nothing = [None] if bool((slots < 0).any()) else []
    keys, values, hidden = {}, {}, {}
    masks: dict[tuple[bool, ...], Tensor] = {}  # one for all the layers of a stack
    for site in dict.fromkeys(site for p in present for site in p.keys_values or ()):
        found = [*((p.keys_values or {}).get(site) for p in present), *nothing]
        like = next(pair for pair in found if pair is not None)
        keys[site] = _bank([pair and pair[0] for pair in found], like[0], widest)
        values[site] = _bank([pair and pair[1] for pair in found], like[1], widest)
        if None in found[: len(present)]:
            has = tuple(pair is not None for pair in found)
            if has not in masks:
                masks[has] = columns & torch.tensor([*has, False], device=device)[slots, None]
            hidden[site] = masks[has]
    starts = _starts(prompts, rows, widest)[:, 0]
    return Injection(
        keys=keys,
        values=values,
        rows=slots % (len(present) + len(nothing)),
        columns=columns,
        hidden=hidden,
        # the token that predicts the target must see the prompt, which has no output of its own
        starts=starts.minimum((rows.inputs - 1).clamp(min=0)),
        causal=backbone.spec.kind == "decoder-only",
        sites=backbone.sites,
    )


def _bank(found: Sequence[Tensor | None], like: Tensor, width: int) -> Tensor:
    """One tensor `[prompts, kv_heads, prompt, head_dim]`; prompts without anything are zeros, never seen."""
    parts = [like.new_zeros(like.shape[0], width, like.shape[2]) if part is None else part for part in found]
    return torch.stack([nn.functional.pad(part, (0, 0, 0, width - part.shape[1])) for part in parts])
