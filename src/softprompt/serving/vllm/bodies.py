"""What a vLLM server is asked at `/v1/completions`, and what it says.

Read off vLLM 0.32. Every setting is sent, because what is left out is taken from the model's own files there. Texts are
made here of the token ids, as of those of a model that is here, so that stop texts and pieces are the same.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from softprompt.errors import ServerError
from softprompt.inference import Sampling
from softprompt.inference.sampling import Chosen

__all__ = ["asked_at", "chosen_in", "generating_body", "ranking_body", "written"]

log = logging.getLogger(__name__)

_PREFIX = "token_id:"
_NONSENSE = (
    "The engine behind this server answered what is no answer to this request ({why}); see that it is a vLLM of version"
    " 0.32 or one that answers alike."
)
_DOUBTS = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
_MOST_LOGGED = 500
"""Characters of an answer that is none."""
_PLAIN = {
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "ignore_eos": True,  # what ends a text is said in stop_token_ids
    "return_token_ids": True,
    "return_tokens_as_token_ids": True,
}


def generating_body(
    model: str, given: Mapping[str, Any], sampling: Sampling, ends: Collection[int], number: int
) -> dict[str, Any]:
    """A request for one text, token by token.

    Args:
        model: As the server calls it.
        given: The input: `prompt` or `prompt_embeds`.
        sampling: How its tokens are chosen.
        ends: Token ids that end it.
        number: Which of several answers to one request this is; each has a draw of its own.
    """
    return {
        "model": model,
        **given,
        **_PLAIN,
        "stream": True,
        "max_tokens": sampling.max_new_tokens,
        "min_tokens": sampling.min_new_tokens,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k or 0,
        "top_p": sampling.top_p,
        "seed": None if sampling.seed is None else (sampling.seed + number) % 2**63,
        "logprobs": sampling.logprobs,
        "stop_token_ids": sorted(ends),
    }


def ranking_body(model: str, given: Mapping[str, Any], tokens: Sequence[int]) -> dict[str, Any]:
    """A request for the log-probabilities of some tokens as the next one of each of several inputs.

    Args:
        model: As the server calls it.
        given: The inputs: a list as `prompt` or `prompt_embeds`.
        tokens: Their ids.
    """
    wanted = {"logprobs": 1, "logprob_token_ids": list(tokens)}
    return {"model": model, **given, **_PLAIN, **wanted, "max_tokens": 1, "temperature": 0.0}


def written(body: Mapping[str, Any]) -> bytes:
    """A request as it goes over the wire: a body of the two above as JSON."""
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


def chosen_in(event: str, *, vocab: int, logprobs: int | None) -> list[Chosen]:
    """The tokens that an event of a stream adds to a text.

    Args:
        event: The JSON of it.
        vocab: How many token ids there are.
        logprobs: As they were asked for.

    Raises:
        ServerError: If it is a failure, or no event of such a stream.
    """
    said = _read(event)
    try:
        choices = said["choices"]
        (choice,) = choices or [{"token_ids": []}]  # of usage alone
        ids = choice["token_ids"] or []
        if not all(type(token) is int and 0 <= token < vocab for token in ids):
            raise ValueError(f"token ids outside of 0 to {vocab - 1}")
        if logprobs is None or not ids:
            return [Chosen(token) for token in ids]
        told = choice["logprobs"]
        return [
            Chosen(token, _finite(own), _likeliest(top, logprobs))
            for token, own, top in zip(ids, told["token_logprobs"], told["top_logprobs"], strict=True)
        ]
    except _DOUBTS as error:
        raise _nonsense(error, event) from None


def asked_at(answer: Any, inputs: int, tokens: Collection[int]) -> list[dict[int, float]]:
    """The log-probabilities that a request of `ranking_body` asked for, by token, of each input in order.

    Args:
        answer: The JSON of its answer.
        inputs: How many there were.
        tokens: What was asked for.

    Raises:
        ServerError: If it is no such answer.
    """
    try:
        choices = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
        found = [_by_token(choice["logprobs"]["top_logprobs"][0]) for choice in choices]
        if len(found) != inputs:
            raise ValueError(f"{len(found)} choices for {inputs} inputs")
        return [{token: one[token] for token in tokens} for one in found]
    except _DOUBTS as error:
        raise _nonsense(error, answer) from None


def _read(event: str) -> Any:
    try:
        said = json.loads(event)
    except (ValueError, RecursionError) as error:
        raise _nonsense(error, event) from None
    if isinstance(said, dict) and "error" in said:
        raise ServerError("The engine behind this server failed at this request; its log says why. Try again later.")
    return said


def _likeliest(top: Mapping[str, float], count: int) -> tuple[tuple[int, float], ...]:
    return tuple(sorted(_by_token(top).items(), key=lambda one: -one[1])[:count])


def _by_token(top: Mapping[str, float]) -> dict[int, float]:
    return {int(name.removeprefix(_PREFIX)): _finite(value) for name, value in top.items()}


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("a log-probability that is not finite")
    return number


def _nonsense(error: Exception, said: Any) -> ServerError:
    """What a client is told, which has none of the engine's words; these go to the log."""
    why = {"reason": f"{type(error).__name__}: {error}"[:_MOST_LOGGED], "said": str(said)[:_MOST_LOGGED]}
    log.warning("the engine behind answered what is no answer", extra=why)
    return ServerError(_NONSENSE.format(why=type(error).__name__))
