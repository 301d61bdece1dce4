"""The memory of a batch that rows join while it runs, and what a model reads and writes of it in a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from jaxtyping import Bool
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

__all__ = ["SlotCache", "Slots"]

_LEAST_COLUMNS, _LEAST_SLOTS = 64, 4


@final
class Slots:
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

    def open(self, longest: int) -> SlotCache:
        """What the model reads and writes in a step: the columns that some row has."""
        slots, columns = self._rooms[0][0].shape[0], self._rooms[0][0].shape[2]
        if self._end == columns:  # rows that began earlier may have left
            self._move(slots, longest if longest <= columns // 2 else columns, longest)
        return SlotCache(self._rooms, self._rows, self._end - longest, self._end)

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
class SlotCache(DynamicCache):
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
