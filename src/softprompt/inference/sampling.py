"""How one request's next token is chosen: greedily or by its own draw, whatever else is in the batch."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from softprompt.backbones import Backbone
from softprompt.conditioning import generation
from softprompt.errors import ConfigError

__all__ = ["Chooser", "Chosen", "Sampling"]

_MOST_LOGPROBS = 20
_LEAST_TEMPERATURE = 1e-6
_PLAIN: dict[type, Callable[[Any], int | float]] = {numbers.Integral: int, numbers.Real: float}
_NUMBERS: dict[str, type] = {
    "max_new_tokens": numbers.Integral,
    "min_new_tokens": numbers.Integral,
    "temperature": numbers.Real,
    "top_k": numbers.Integral,
    "top_p": numbers.Real,
    "repetition_penalty": numbers.Real,
    "seed": numbers.Integral,
    "logprobs": numbers.Integral,
}


@final
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Settings of one request's generation; what is left out is as in `predict_texts`.

    Attributes:
        max_new_tokens: Longest answer.
        min_new_tokens: No end before so many tokens; 0 for the model's own setting.
        temperature: By which logits are divided before a token is drawn; 0 takes the likeliest.
        top_k: Draw among so many likeliest tokens; None among all.
        top_p: Draw among the likeliest tokens that have this much of the probability together.
        repetition_penalty: Divides what speaks for tokens of the answer so far, and in a decoder-only model of the
            input; 1 for none, None for the model's own setting.
        seed: Of the draw; None draws another answer each time.
        stop: Texts before which an answer ends.
        logprobs: Of how many likeliest tokens the log-probabilities are wanted at each step, beside the chosen one's;
            None for none at all.

    Raises:
        ConfigError: If a setting is out of range or of another type.

    References:
        Keskar et al. 2019 (repetition penalty); Holtzman et al. 2020 (`top_p`).
    """

    max_new_tokens: int = 128
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        for name, kind in _NUMBERS.items():
            value: Any = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, kind):
                raise ConfigError(f"{name}={value!r}: expected a number{', a whole one' * (kind is numbers.Integral)}.")
            object.__setattr__(self, name, _PLAIN[kind](value))
        hot = self.temperature == 0 or _LEAST_TEMPERATURE <= self.temperature < math.inf
        penalty = self.repetition_penalty
        checks = {
            "max_new_tokens": (self.max_new_tokens >= 1, "at least 1"),
            "min_new_tokens": (0 <= self.min_new_tokens <= self.max_new_tokens, "0 to max_new_tokens"),
            "temperature": (hot, f"0, or {_LEAST_TEMPERATURE} and more"),
            "top_k": (self.top_k is None or self.top_k >= 1, "at least 1, or None"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "repetition_penalty": (penalty is None or 0.01 <= penalty <= 100, "0.01 to 100, or None"),
            "seed": (self.seed is None or -(2**63) <= self.seed < 2**63, "a number of 64 bits"),
            "stop": (all(isinstance(one, str) and one for one in self.stop), "texts that are not empty"),
            "logprobs": (self.logprobs is None or 0 <= self.logprobs <= _MOST_LOGPROBS, f"0 to {_MOST_LOGPROBS}"),
        }
        for name, (right, wanted) in checks.items():
            if not right:
                raise ConfigError(f"{name}={getattr(self, name)}: expected {wanted}.")

    def options(self) -> dict[str, Any]:
        """The settings in transformers' words."""
        options: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "do_sample": self.temperature > 0}
        if self.min_new_tokens:
            options["min_new_tokens"] = self.min_new_tokens
        if self.repetition_penalty is not None:
            options["repetition_penalty"] = self.repetition_penalty
        if self.temperature:
            options |= {"temperature": self.temperature, "top_k": self.top_k or 0, "top_p": self.top_p}
        return options


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
    """Chooses the tokens of one answer, one after the other, as transformers would for it alone.

    Args:
        backbone: Whose own settings count where the request says nothing.
        sampling: The request's settings.
        ids: The input's token ids.
        number: Which of several answers to one request this is; each has a draw of its own.
    """

    def __init__(self, backbone: Backbone, sampling: Sampling, ids: Sequence[int], number: int = 0) -> None:
        self.sampling = sampling
        self._processors, self._seen = generation.logits_processors(backbone, ids, sampling.options())
        self._generator: torch.Generator | None = None
        if sampling.temperature:
            self._generator = torch.Generator()
            if sampling.seed is None:
                self._generator.seed()
            else:
                self._generator.manual_seed((sampling.seed + number) % 2**63)

    @property
    def is_plain(self) -> bool:
        """Whether the next token is the one with the largest logit, and nothing else is asked."""
        return not (self.sampling.temperature or self._processors or self.sampling.logprobs is not None)

    def take(self, token: int) -> Chosen:
        """Note the likeliest token, where the choice is plain."""
        self._seen.append(token)
        return Chosen(token)

    def choose(self, logits: Float[Tensor, "members vocab"]) -> Chosen:
        """The next token, by one prompt's logits or by the mean of several prompts' probabilities."""
        logits = logits.detach().float().cpu()
        mean = logits if len(logits) == 1 else logits.softmax(-1).mean(0, keepdim=True).log()  # [1, vocab]
        if self._generator is not None:
            scores = self._processed(mean)
            token = int(torch.multinomial(scores[0].softmax(-1), 1, generator=self._generator))
        elif len(logits) == 1:
            token = int(self._processed(mean)[0].argmax())
        else:  # as in `MeanOfMembers`, behind the model's own processors
            token = int(self._processed(logits).softmax(-1).mean(0).argmax())
        self._seen.append(token)
        if self.sampling.logprobs is None:
            return Chosen(token)
        shares = mean[0].log_softmax(-1)
        values, ids = shares.topk(min(self.sampling.logprobs, len(shares)))
        return Chosen(token, float(shares[token]), tuple(zip(ids.tolist(), values.tolist(), strict=True)))

    def _processed(self, logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows vocab"]:
        if not self._processors:
            return logits
        seen = torch.tensor([self._seen], dtype=torch.long).expand(len(logits), -1)
        scores = logits.clone()
        for processor in self._processors:
            scores = processor(seen, scores)
        return scores
