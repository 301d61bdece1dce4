"""Generation step by step: rows come into a running batch and leave it, each with its prompt or none.

transformers' `generate` answers a batch from its first row's start to its last row's end. Here the caller chooses the
tokens, and says after each step which rows go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, final, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutput

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Carried, Injection
from softprompt.backbones.prompt_cache import prompt_cache
from softprompt.conditioning import generation
from softprompt.conditioning.forward import only_kept
from softprompt.conditioning.joining import Applied, Joined, Rows, join
from softprompt.conditioning.probe import probe
from softprompt.errors import ConfigError, UnsupportedError

__all__ = ["Decoding", "JoiningDecoding", "TurnDecoding", "may_join"]

_LEAST_COLUMNS, _LEAST_SLOTS = 64, 4


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
        self._slots = _Slots()
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


@final
class _Slots:
    """The memory of a running batch: by layer, keys and values `[slots, kv_heads, columns, head_dim]`."""

    def __init__(self) -> None:
        self._rooms: list[tuple[Tensor, Tensor]] = []
        self._rows = 0
        self._end = 0  # the column behind the last one that is written

    def make_room(self, length: int, rows: int, longest: int, past: DynamicCache) -> None:
        """Room for so many rows, of which the longest new one and the longest old one are told.

        The first ones that are read say what a layer keeps.
        """
        if not self._rooms:
            shapes = [(layer.keys, layer.values) for layer in past.layers]
            self._rooms = [tuple(x.new_zeros(0, x.shape[1], 0, x.shape[3]) for x in pair) for pair in shapes]
            self._end = 0
        slots, columns = self._rooms[0][0].shape[0], self._rooms[0][0].shape[2]
        behind = max(length, self._end)  # where the last column comes to stand
        if behind >= columns:
            behind = max(length, longest)
        if rows > slots or behind >= columns or behind != self._end:
            self._move(slots if rows <= slots else max(rows, 2 * slots, _LEAST_SLOTS), behind, longest)

    def _move(self, slots: int, behind: int, longest: int) -> None:
        """Bring the last columns, so many, to stand before another one, in other memory where this is too small."""
        there, columns = self._rooms[0][0].shape[0], self._rooms[0][0].shape[2]
        wide = columns if behind < columns else behind + max(behind // 2, _LEAST_COLUMNS)
        for place, pair in enumerate(self._rooms):
            moved = []
            for room in pair:
                kept = room[: self._rows, :, self._end - longest : self._end].clone()
                new = (
                    room
                    if (slots, wide) == (there, columns)
                    else room.new_zeros(slots, room.shape[1], wide, room.shape[3])
                )
                new[: self._rows, :, behind - longest : behind] = kept
                moved.append(new)
            self._rooms[place] = (moved[0], moved[1])
        self._end = behind

    def put(self, slot: int, past: DynamicCache, row: int, seen: Bool[Tensor, " columns"], length: int) -> None:
        """Copy a row that was just read to its slot; nothing of who had it before stays."""
        for (keys, values), layer in zip(self._rooms, past.layers, strict=True):
            for room, read in ((keys, layer.keys), (values, layer.values)):
                room[slot, :, : self._end - length] = 0  # masked, but nothing times NaN is NaN
                room[slot, :, self._end - length : self._end] = read[row][:, seen]
        self._rows = slot + 1

    def open(self, longest: int) -> _SlotCache:
        """What the model reads and writes in a step: the columns that some row has."""
        slots, columns = self._rooms[0][0].shape[0], self._rooms[0][0].shape[2]
        if self._end == columns:  # rows that began earlier may have left
            self._move(slots, longest if longest <= columns // 2 else columns, longest)
        return _SlotCache(self._rooms, self._rows, self._end - longest, self._end)

    def close(self) -> None:
        """A column was written."""
        self._end += 1

    def keep(self, rows: int, moved: Mapping[int, int]) -> None:
        """Go on with so many rows, some of which move to other slots; where none is left, give the memory back."""
        for slot, free in moved.items():
            for pair in self._rooms:
                for room in pair:
                    room[free] = room[slot]
        self._rows = rows
        if not rows:
            self._rooms = []


@final
class _SlotCache(DynamicCache):
    """The running rows' keys and values as transformers' cache for one step."""

    def __init__(self, rooms: Sequence[tuple[Tensor, Tensor]], rows: int, first: int, end: int) -> None:
        super().__init__()
        self.columns = end - first
        self.layers = [
            _SlotLayer(keys[:rows, :, first:], values[:rows, :, first:], self.columns) for keys, values in rooms
        ]


@final
class _SlotLayer(DynamicLayer):
    """One layer of a step: what is there, and room for a column behind it."""

    def __init__(self, keys: Tensor, values: Tensor, columns: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values, self._columns = keys, values, columns

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write a column, and give all."""
        end = self._columns + key_states.shape[2]
        self.keys[:, :, self._columns : end] = key_states
        self.values[:, :, self._columns : end] = value_states
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        """Columns before this step."""
        return self._columns


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


@final
class TurnDecoding:
    """A batch of any model that generates text; rows join it when it is empty.

    The places of rows that left are given up when they are half of all.

    Args:
        backbone: The frozen model.

    Raises:
        UnsupportedError: If the model generates no text.
    """

    def __init__(self, backbone: Backbone) -> None:
        if backbone.spec.kind == "encoder-only":
            raise UnsupportedError(f"{backbone.name} is encoder-only and generates no text.")
        self._backbone = backbone
        self._inputs: dict[str, Any] = {}
        self._injection: Injection | None = None
        self._alive: list[int] = []  # rows of the tensors that are still wanted
        self._size = 0

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self._alive)

    @torch.no_grad()
    def admit(self, prompts: Sequence[Applied], rows: Rows) -> Float[Tensor, "new vocab"]:
        """Begin with these rows; see `Decoding`.

        Raises:
            ConfigError: If others have not left yet.
        """
        if self._alive:
            raise ConfigError("Rows join this batch when all others have left; wait until then.")
        self._size = len(rows.ids)
        is_translation = self._backbone.spec.kind == "encoder-decoder"
        logits = self._translate(prompts, rows) if is_translation else self._begin(prompts, rows)
        self._alive = list(range(self._size))  # only now: where rows cannot be read, others still may
        return logits

    def _begin(self, prompts: Sequence[Applied], rows: Rows) -> Float[Tensor, "new vocab"]:
        joined = join(self._backbone, prompts, rows, side="left")
        self._injection = joined.injection
        out = self._backbone.call(Carried(injection=joined.injection), use_cache=True, **joined.model_inputs)
        self._inputs = {"attention_mask": joined.model_inputs["attention_mask"], "past_key_values": out.past_key_values}
        if "position_ids" in joined.model_inputs:
            self._inputs["position_ids"] = joined.model_inputs["position_ids"][:, -1:]
        logits: Tensor = out.logits[:, -1]
        return logits

    def _translate(self, prompts: Sequence[Applied], rows: Rows) -> Float[Tensor, "new vocab"]:
        backbone = self._backbone
        joined = join(backbone, prompts, rows)
        self._injection = joined.injection
        encoded = generation.encode(backbone, joined).last_hidden_state
        self._inputs = {"encoded": encoded, "attention_mask": joined.model_inputs["attention_mask"]}
        start = torch.full((self._size, 1), generation.decoder_start_id(backbone), device=backbone.device)
        return self._decode(start)

    def _decode(self, ids: Int[Tensor, "batch 1"]) -> Float[Tensor, "batch vocab"]:
        out = self._backbone.call(
            Carried(injection=self._injection),
            encoder_outputs=BaseModelOutput(last_hidden_state=self._inputs["encoded"]),
            attention_mask=self._inputs["attention_mask"],
            decoder_input_ids=ids,
            past_key_values=self._inputs.get("past_key_values"),
            use_cache=True,
        )
        self._inputs["past_key_values"] = out.past_key_values
        logits: Tensor = out.logits[:, -1]
        return logits

    @torch.no_grad()
    def step(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows vocab"]:
        """Read each row's chosen token; see `Decoding`."""
        ids = torch.zeros(self._size, 1, dtype=torch.long, device=self._backbone.device)
        ids[self._alive, 0] = tokens
        if self._backbone.spec.kind == "encoder-decoder":
            return self._decode(ids)[self._alive]
        inputs = self._inputs
        mask = inputs["attention_mask"]
        inputs["attention_mask"] = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        if "position_ids" in inputs:
            inputs["position_ids"] = inputs["position_ids"] + 1
        out = self._backbone.call(Carried(injection=self._injection), use_cache=True, input_ids=ids, **inputs)
        inputs["past_key_values"] = out.past_key_values
        logits: Tensor = out.logits[:, -1][self._alive]
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone; see `Decoding`."""
        self._alive = [self._alive[row] for row in rows]
        if not self._alive:
            self._inputs, self._injection = {}, None
        elif len(self._alive) <= self._size // 2:
            index = torch.tensor(self._alive, device=self._backbone.device)
            self._inputs["past_key_values"].batch_select_indices(index)
            for name in self._inputs.keys() - {"past_key_values"}:
                self._inputs[name] = self._inputs[name][index]
            if self._injection is not None:
                self._injection = self._injection.of(index)
            self._alive, self._size = list(range(len(index))), len(index)
