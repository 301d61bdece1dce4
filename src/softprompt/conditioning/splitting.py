"""Where prompts stand behind the input of a causal model: what is before them is computed without gradients.

Nothing there depends on a prompt, so nothing there needs a backward pass. The layers' keys and values of the first part
are all that the second one, prompts and targets, has to know of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Carried
from softprompt.conditioning.input_cache import InputCache, first_tokens
from softprompt.conditioning.joining import Joined, Rows
from softprompt.conditioning.probe import probe

__all__ = ["divides", "pays", "read_in_two_parts", "start_cost"]

_START_COST, _LAUNCH_COST = {"cpu": 64}, 2048
"""In tokens, by type of device, and of any other. Six shapes on a CPU have 28 to 138 (`python -m benchmarks.starting`);
that of accelerators is a guess."""


def start_cost(device: torch.device) -> int:
    """What starting a pass costs, in tokens that could go through the model instead: an accelerator waits longer."""
    return _START_COST.get(device.type, _LAUNCH_COST)


def divides(backbone: Backbone) -> bool:
    """Whether a text can be read in parts: a cache, positions and masks are all that one part has to know of another.

    The probe tries it beside the shared-prompt pass. A layer that folds what it reads into a state is found there, and
    so are positions that count padding.
    """
    return backbone.takes_positions and probe(backbone).shared is None


def pays(backbone: Backbone, joined: Joined) -> bool:
    """Whether reading in two parts is exact, and saves more than a pass: enough stands before all prompts, and only
    prompts are trained. Processes that gather weights from each other take the same passes, whatever their rows."""
    if (
        backbone.sharded
        or not torch.is_grad_enabled()
        or any(parameter.requires_grad for parameter in backbone.model.parameters())
    ):
        return False
    fixed = joined.fixed
    return int(fixed.min()) >= 1 and int(fixed.sum()) >= start_cost(backbone.device) and divides(backbone)


def read_in_two_parts(
    backbone: Backbone,
    joined: Joined,
    rows: Rows,
    kept: Bool[Tensor, "batch joined"],
    known: InputCache | None = None,
) -> tuple[Any, Bool[Tensor, "batch second"]]:
    """The second part's outputs, and where in it the wanted positions are.

    Args:
        backbone: A decoder-only model.
        joined: The batch with its prompts.
        rows: The batch before that.
        kept: True where logits are wanted, which must be behind the first part.
        known: First parts that were computed before, if they are kept.

    Returns:
        What the model gives, its logits `[1, kept, vocab]` if its head could be told; and True at wanted positions.
    """
    lengths, fixed = joined.mask.sum(-1), joined.fixed
    order = joined.mask.long().argsort(dim=1, descending=True, stable=True)  # [batch, joined]: real columns first

    def read(chosen: Sequence[int]) -> Any:
        return _read_first(backbone, joined, order, chosen)

    if known is None:
        past = read(range(len(fixed)))
    else:
        past = known.past(backbone, first_tokens(rows.ids, rows.mask, fixed), read)
    behind = torch.arange(int((lengths - fixed).max()), device=fixed.device) + fixed[:, None]  # [batch, second]
    seen, following = _on_the_right(fixed) >= 0, behind < lengths[:, None]
    at_second = order.gather(1, behind.clamp(max=order.shape[1] - 1))
    wanted = kept.gather(1, at_second) & following
    output = backbone.call(
        Carried(
            injection=joined.injection,
            kept=wanted if backbone.head_is_separable else None,
            branches=None if joined.branches is None else joined.branches.gather(1, at_second),
        ),
        use_cache=True,
        past_key_values=past,
        **_taken(joined.model_inputs, at_second),
        attention_mask=torch.cat([seen, following], dim=1).long(),
    )
    return output, wanted


@torch.no_grad()
def _read_first(backbone: Backbone, joined: Joined, order: Int[Tensor, "batch joined"], chosen: Sequence[int]) -> Any:
    """The model's cache behind the first parts of some rows, padded on the left; no prompt is seen there."""
    index = torch.tensor(chosen, device=order.device)
    before = _on_the_right(joined.fixed[index])  # [chosen, first]
    seen = before >= 0
    last = torch.zeros_like(seen)  # nothing is wanted of the first part: one position a row keeps the head cheap
    last[:, -1:] = True
    whole = {name: value[index] for name, value in joined.model_inputs.items()}
    return backbone.call(
        Carried(kept=last if backbone.head_is_separable else None),
        use_cache=True,
        **_taken(whole, order[index].gather(1, before.clamp(min=0))),
        attention_mask=seen.long(),
    ).past_key_values


def _on_the_right(counts: Int[Tensor, " batch"]) -> Int[Tensor, "batch longest"]:
    """The numbers of each row's first tokens, so many, aligned on the right; below 0 at padding."""
    longest = int(counts.max())
    return torch.arange(longest, device=counts.device) - (longest - counts)[:, None]


def _taken(model_inputs: dict[str, Any], columns: Int[Tensor, "batch part"]) -> dict[str, Any]:
    """Some columns of what the model reads, but for the mask."""
    parts = {}
    for name, whole in model_inputs.items():
        if name != "attention_mask":
            index = columns if whole.dim() == 2 else columns[:, :, None].expand(-1, -1, whole.shape[2])
            parts[name] = whole.gather(1, index)
    return parts
