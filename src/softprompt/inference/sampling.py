"""How one request's next token is chosen: greedily or by its own draw, whatever else is in the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from softprompt.errors import ConfigError

__all__ = ["Chooser", "Chosen", "Sampling"]

_MOST_LOGPROBS = 20


@final
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Settings of one request's generation.

    Attributes:
        max_new_tokens: Longest answer.
        min_new_tokens: No end before so many tokens.
        temperature: By which logits are divided before a token is drawn; 0 takes the likeliest.
        top_k: Draw among so many likeliest tokens; None among all.
        top_p: Draw among the likeliest tokens that have this much of the probability together.
        repetition_penalty: Divides what speaks for tokens of the input and the answer so far; 1 for none.
        seed: Of the draw; None draws another answer each time.
        stop: Texts before which an answer ends.
        logprobs: Of how many likeliest tokens the log-probabilities are wanted at each step, beside the chosen one's;
            None for none at all.

    Raises:
        ConfigError: If a setting is out of range.

    References:
        Keskar et al. 2019 (repetition penalty); Holtzman et al. 2020 (`top_p`).
    """

    max_new_tokens: int = 128
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        checks = {
            "max_new_tokens": (self.max_new_tokens >= 1, "at least 1"),
            "min_new_tokens": (0 <= self.min_new_tokens <= self.max_new_tokens, "0 to max_new_tokens"),
            "temperature": (0 <= self.temperature < math.inf, "0 or more"),
            "top_k": (self.top_k is None or self.top_k >= 1, "at least 1, or None"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "repetition_penalty": (0 < self.repetition_penalty < math.inf, "above 0"),
            "seed": (self.seed is None or -(2**63) <= self.seed < 2**63, "a number of 64 bits"),
            "stop": (all(self.stop), "texts that are not empty"),
            "logprobs": (self.logprobs is None or 0 <= self.logprobs <= _MOST_LOGPROBS, f"0 to {_MOST_LOGPROBS}"),
        }
        for name, (right, wanted) in checks.items():
            if not right:
                raise ConfigError(f"{name}={getattr(self, name)}: expected {wanted}.")


@final
@dataclass(frozen=True, slots=True)
class Chosen:
    """A token, and what the model thought of it.

    Attributes:
        token: Its id.
        logprob: Its log-probability under the model, in nats, before any setting; None if none was asked for.
        top: Ids and log-probabilities of the likeliest tokens, the likeliest first; as many as asked for.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@final
class Chooser:
    """Chooses the tokens of one answer, one after the other.

    Args:
        sampling: The request's settings.
        ids: The input's token ids.
        ends: Token ids that end an answer.
        number: Which of several answers to one request this is; each has a draw of its own.
    """

    def __init__(self, sampling: Sampling, ids: Sequence[int], ends: Sequence[int], number: int = 0) -> None:
        self.sampling = sampling
        self._seen = list(ids)
        self._ends = list(ends)
        self._made = 0
        self._processors = _processors(sampling)
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed + number)

    @property
    def is_plain(self) -> bool:
        """Whether the next token is the one with the largest logit, and nothing else is asked."""
        settings = self.sampling
        held_back = self._made < settings.min_new_tokens
        return not (settings.temperature or self._processors or held_back or settings.logprobs is not None)

    def take(self, token: int) -> Chosen:
        """Note a token that was chosen elsewhere, where the choice is plain."""
        self._made += 1
        return Chosen(token)

    def choose(self, logits: Float[Tensor, " vocab"]) -> Chosen:
        """The next token."""
        logits = logits.detach().float().cpu()
        scores = logits.clone()
        if self._made < self.sampling.min_new_tokens:
            scores[self._ends] = -torch.inf
        if self._processors:
            seen = torch.tensor([self._seen], dtype=torch.long)
            scores = self._processors(seen, scores[None])[0]
        if self.sampling.temperature:
            token = int(torch.multinomial(scores.softmax(-1), 1, generator=self._generator))
        else:
            token = int(scores.argmax())
        self._seen.append(token)
        self._made += 1
        if self.sampling.logprobs is None:
            return Chosen(token)
        shares = logits.log_softmax(-1)
        values, ids = shares.topk(min(self.sampling.logprobs, len(shares)))
        return Chosen(token, float(shares[token]), tuple(zip(ids.tolist(), values.tolist(), strict=True)))


def _processors(sampling: Sampling) -> LogitsProcessorList:
    """What changes the logits, in transformers' own order."""
    processors = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature:
        if sampling.temperature != 1:
            processors.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k is not None:
            processors.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            processors.append(TopPLogitsWarper(sampling.top_p))
    return processors
