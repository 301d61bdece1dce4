"""Generation step by step: rows come into a running batch and leave it, each with its prompt or none.

transformers' `generate` answers a batch from its first row's start to its last row's end. Here the caller chooses the
tokens, and says after each step which rows go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Carried
from softprompt.backbones.prompt_cache import prompt_cache
from softprompt.conditioning.forward import only_kept
from softprompt.conditioning.joining import Applied, Joined, Rows, join
from softprompt.conditioning.probe import probe
from softprompt.conditioning.slots import Slots

__all__ = ["Decoding", "JoiningDecoding", "may_join"]


@runtime_checkable
class Decoding(Protocol):
    """A running batch."""

    @property
    def rows(self) -> int:
        """How many rows there are."""
        ...

    def admit(self, prompts: Sequence[Applied], rows: Rows) -> Float[Tensor, "new vocab"]:
        """Add rows behind those that are there, and give the logits of each new one's first token."""
        ...

    def step(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows vocab"]:
        """Read each row's chosen token, and give the logits of its next one."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone, which are given in ascending order."""
        ...


def may_join(backbone: Backbone, prompts: Sequence[Applied]) -> bool:
    """Whether rows with these prompts may come into a batch that runs already.

    Their keys and values stand one after the other in every layer then, so each layer must keep all of them and see all
    of them, and a prefix must reach every layer.
    """
    if not probe(backbone).joins:
        return False
    return all(p.keys_values is None or set(p.keys_values) == set(backbone.sites.values()) for p in prompts)


@final
class JoiningDecoding:
    """A batch of a decoder-only model that rows join while it runs.

    A row has a slot in every layer's memory: its prompt's keys and values and its text's, one after the other and
    aligned on the right, so that all rows write their next token to the same column. Who joins copies nothing but its
    own; into the slot of one who leaves moves the last slot's.

    Args:
        backbone: A decoder-only model, on which `may_join` holds.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._slots = Slots()
        self._slot_of: list[int] = []  # by row
        self._lengths: list[int] = []  # by slot, of its keys and values
        self._positions = torch.zeros(0, dtype=torch.long, device=backbone.device)  # by slot

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self._slot_of)

    @torch.no_grad()
    def admit(self, prompts: Sequence[Applied], rows: Rows) -> Float[Tensor, "new vocab"]:
        """Add rows behind those that are there; see `Decoding`."""
        joined, out, past = _read(self._backbone, prompts, rows)
        seen = joined.mask
        if joined.injection is not None:
            seen = torch.cat([joined.injection.columns, joined.mask], dim=1)  # [new, prompt+joined]
        lengths = seen.sum(-1).tolist()
        self._slots.make_room(max(lengths), self.rows + len(lengths), max(self._lengths, default=0), past)
        for row, length in enumerate(lengths):
            self._slots.put(len(self._lengths), past, row, seen[row], length)
            self._slot_of.append(len(self._lengths))
            self._lengths.append(length)
        self._positions = torch.cat([self._positions, joined.model_inputs["position_ids"][:, -1] + 1])
        return out

    @torch.no_grad()
    def step(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows vocab"]:
        """Read each row's chosen token; see `Decoding`."""
        cache = self._slots.open(max(self._lengths))
        columns = torch.arange(cache.columns, device=tokens.device)
        lengths = torch.tensor(self._lengths, device=tokens.device)
        mask = columns >= (cache.columns - lengths)[:, None]  # [slots, columns]: all are aligned on the right
        slots = torch.tensor(self._slot_of, device=tokens.device)
        logits: Tensor = self._backbone.call(
            Carried(),
            use_cache=True,
            input_ids=torch.empty_like(tokens).scatter_(0, slots, tokens)[:, None],
            position_ids=self._positions[:, None],
            attention_mask=torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1).long(),
            past_key_values=cache,
        ).logits[:, -1]
        self._slots.close()
        self._lengths = [length + 1 for length in self._lengths]
        self._positions = self._positions + 1
        return logits[slots]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone; see `Decoding`."""
        kept = [self._slot_of[row] for row in rows]
        free = iter(sorted(set(range(len(kept))) - set(kept)))
        moved = {slot: next(free) for slot in sorted(kept) if slot >= len(kept)}
        self._slots.keep(len(kept), moved)
        self._slot_of = [moved.get(slot, slot) for slot in kept]
        order = sorted(range(len(kept)), key=self._slot_of.__getitem__)
        self._lengths = [self._lengths[kept[row]] for row in order]
        self._positions = self._positions[[kept[row] for row in order]]


def _read(
    backbone: Backbone, prompts: Sequence[Applied], rows: Rows
) -> tuple[Joined, Float[Tensor, "batch vocab"], DynamicCache]:
    """Read inputs behind their prompts: the logits of their first tokens, and a cache with prompts in front."""
    joined = join(backbone, prompts, rows, side="left")
    injection = joined.injection
    config = backbone.model.config
    past = DynamicCache(config=config)
    if injection is not None:
        past, injection = prompt_cache(config, injection)
    last = torch.zeros_like(joined.mask)
    last[:, -1] = True
    load = Carried(
        injection=injection,
        kept=last if backbone.head_is_separable else None,
    )
    out = backbone.call(load, use_cache=True, past_key_values=past, **joined.model_inputs)
    return joined, only_kept(out.logits, last), past
