"""A cache of generation that holds prompts' keys and values before a text's own, and grows in place.

With a stock cache the attention function would put a prompt before the whole text again at every step, and each step
would copy the text besides.
"""

from __future__ import annotations

from typing import Any, final

from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from softprompt.backbones.carrying import Injection, repeat_rows

__all__ = ["PromptedLayer", "bank_rows", "prompt_cache"]

_LEAST_ROOM = 32


def prompt_cache(config: PreTrainedConfig, injection: Injection) -> DynamicCache:
    """A cache for one call of a decoder-only model, or of its `generate`: its layers begin with what prompts give them.

    Layers that see a window, and those to which no prompt gives anything, are stock ones.

    Args:
        config: The model's.
        injection: The prompts' keys and values; what the call carries has to say that they are `stored`.
    """
    cache = DynamicCache(config=config)
    for module, site in injection.sites.items():
        index = getattr(module, "layer_idx", -1)
        if site in injection.keys and 0 <= index < len(cache.layers) and type(cache.layers[index]) is DynamicLayer:
            cache.layers[index] = PromptedLayer(injection.keys[site], injection.values[site], injection.rows)
    return cache


@final
class PromptedLayer(DynamicLayer):
    """One layer of a cache: `[batch, kv_heads, prompt+seq, head_dim]`, of which only the text counts as its length.

    Args:
        keys: Of the batch's prompts.
        values: The same for values.
        rows: Which prompt each row takes; beams repeat rows.
    """

    def __init__(
        self,
        keys: Float[Tensor, "prompts kv_heads prompt head_dim"],
        values: Float[Tensor, "prompts kv_heads prompt head_dim"],
        rows: Int[Tensor, " batch"],
    ) -> None:
        super().__init__()
        self._given = (keys, values)
        self._rows = rows
        self._prompt = keys.shape[2]
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
        keys, values = self._room
        self.keys, keys = _append(keys, self.keys, key_states)
        self.values, values = _append(values, self.values, value_states)
        self._room = (keys, values)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Columns of the text alone, which masks and positions count."""
        return self.keys.shape[2] - self._prompt if self.is_initialized else 0


def bank_rows(bank: Tensor, rows: Int[Tensor, " batch"]) -> Tensor:
    """Each row's prompt; one prompt for all rows is not copied."""
    return bank.expand(rows.shape[0], -1, -1, -1) if bank.shape[0] == 1 else bank.index_select(0, rows)


def _append(room: Tensor | None, known: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """What is known with the new columns behind it, and the memory that it lies in, of which some is free."""
    before, length = known.shape[2], known.shape[2] + new.shape[2]
    if room is None or room.data_ptr() != known.data_ptr() or len(room) != len(known) or room.shape[2] < length:
        room = new.new_empty(*known.shape[:2], length + max(length // 2, _LEAST_ROOM), known.shape[3])
        room[:, :, :before] = known
    room[:, :, before:length] = new
    return room[:, :, :length], room
