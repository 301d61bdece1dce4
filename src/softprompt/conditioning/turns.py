"""Generation step by step, of any model: rows begin together, and may leave one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Carried, Injection
from softprompt.conditioning import generation
from softprompt.conditioning.forward import only_kept
from softprompt.conditioning.joining import Applied, Rows, join
from softprompt.errors import ConfigError, UnsupportedError

__all__ = ["TurnDecoding"]


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
        last = torch.zeros_like(joined.mask)
        last[:, -1] = True
        load = Carried(injection=joined.injection, kept=last if self._backbone.head_is_separable else None)
        out = self._backbone.call(load, use_cache=True, **joined.model_inputs)
        self._inputs = {"attention_mask": joined.model_inputs["attention_mask"], "past_key_values": out.past_key_values}
        if "position_ids" in joined.model_inputs:
            self._inputs["position_ids"] = joined.model_inputs["position_ids"][:, -1:]
        return only_kept(out.logits, last)

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
