"""A cache of generation that holds prompts' keys and values before a text's own, and grows in place.

With a stock cache the attention function would put a prompt before the whole text again at every step, and each step
would copy the text besides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, final

from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from softprompt.backbones.carrying import Injection, Site, repeat_rows
from softprompt.errors import ShapeError

__all__ = ["PromptedLayer", "bank_rows", "prompt_cache", "with_stored"]

_LEAST_ROOM = 32


def prompt_cache(config: PreTrainedConfig, injection: Injection, *, room: int = 0) -> tuple[DynamicCache, Injection]:
    """A cache for calls of a decoder-only model, whose layers begin with what prompts give them.

    Layers that see a window are stock ones, which forget what is outside it, and so are those to which no prompt gives
    anything.

    Args:
        config: The model's.
        injection: The prompts' keys and values.
        room: Columns that will follow the text.

    Returns:
        The cache, and what a call has to carry beside it.
    """
    cache = DynamicCache(config=config)
    for site, index in _indices(injection).items():
        if site in injection.keys and index < len(cache.layers) and type(cache.layers[index]) is DynamicLayer:
            given = (injection.keys[site], injection.values[site])
            cache.layers[index] = PromptedLayer(*given, injection.rows, room=room)
    return cache, with_stored(cache, injection)


def with_stored(cache: object, injection: Injection) -> Injection:
    """What a call has to carry beside a cache that `prompt_cache` made."""
    layers = getattr(cache, "layers", [])
    indices = _indices(injection).items()
    stored = [site for site, index in indices if index < len(layers) and isinstance(layers[index], PromptedLayer)]
    return replace(injection, stored=frozenset(stored))


def _indices(injection: Injection) -> dict[Site, int]:
    """By site, the layer of a cache that it writes to; without those that do not say."""
    found = {site: getattr(module, "layer_idx", None) for module, site in injection.sites.items()}
    return {site: index for site, index in found.items() if index is not None}


@final
class PromptedLayer(DynamicLayer):
    """One layer of a cache: `[batch, kv_heads, prompt+seq, head_dim]`, of which only the text counts as its length.

    Args:
        keys: Of the batch's prompts.
        values: The same for values.
        rows: Which prompt each row takes; beams repeat rows.
        room: Columns that will follow the text that is read first.
    """

    def __init__(
        self,
        keys: Float[Tensor, "prompts kv_heads prompt head_dim"],
        values: Float[Tensor, "prompts kv_heads prompt head_dim"],
        rows: Int[Tensor, " batch"],
        *,
        room: int = 0,
    ) -> None:
        super().__init__()
        self._given = (keys, values)
        self._rows = rows
        self._prompt = keys.shape[2]
        self._planned = room
        self._room: tuple[Tensor | None, Tensor | None] = (None, None)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Begin with each row's prompt."""
        super().lazy_initialization(key_states, value_states)
        rows = repeat_rows(self._rows, len(key_states)).to(key_states.device)
        keys, values = self._given
        self.keys, self.values = bank_rows(keys.to(key_states), rows), bank_rows(values.to(value_states), rows)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append `[batch, kv_heads, new, head_dim]`, and give all, the prompt in front."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._planned += self._prompt + key_states.shape[2]
        keys, values = self._room
        self.keys, keys = _append(keys, self.keys, key_states, self._planned)
        self.values, values = _append(values, self.values, value_states, self._planned)
        self._room = (keys, values)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Columns of the text alone, which masks and positions count."""
        return self.keys.shape[2] - self._prompt if self.is_initialized else 0


def bank_rows(bank: Tensor, rows: Int[Tensor, " batch"]) -> Tensor:
    """Each row's prompt; one prompt for all rows is not copied."""
    return bank.expand(rows.shape[0], -1, -1, -1) if bank.shape[0] == 1 else bank.index_select(0, rows)


def _append(room: Tensor | None, known: Tensor, new: Tensor, planned: int) -> tuple[Tensor, Tensor]:
    """What is known with the new columns behind it, and the memory that it lies in, of which some is free."""
    if known.shape[:2] != new.shape[:2] or known.shape[3] != new.shape[3]:
        raise ShapeError(
            f"A layer's cache holds {list(known.shape)} of a prompt, but is to hold {list(new.shape)} too."
        )
    before, length = known.shape[2], known.shape[2] + new.shape[2]
    if room is None or room.data_ptr() != known.data_ptr() or len(room) != len(known) or room.shape[2] < length:
        wide = planned if planned >= length else length + max(length // 2, _LEAST_ROOM)
        room = new.new_empty(*known.shape[:2], wide, known.shape[3])
        room[:, :, :before] = known
    room[:, :, before:length] = new
    return room[:, :, :length], room
