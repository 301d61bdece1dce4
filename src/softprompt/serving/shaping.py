"""From what came over the wire to requests of the engine, and what answers to both ways of generating share."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from softprompt.inference import Answer, Lease, Request, Sampling
from softprompt.serving.failures import invalid
from softprompt.serving.settings import ServerSettings
from softprompt.serving.wire import Details, SamplingFields, Usage

__all__ = ["each", "frame_of", "generating", "token_text", "usage_of"]

_SAID_NOTHING = Sampling()


def each(value: Any) -> list[Any]:
    """The inputs of a field that takes one or several."""
    return value if isinstance(value, list) else [value]


def generating(
    asked: SamplingFields,
    inputs: Sequence[Any],
    prompt: Lease | None,
    settings: ServerSettings,
    *,
    max_tokens: int | None,
    logprobs: int | None,
) -> list[Request]:
    """Requests for text, one for each input.

    Raises:
        FailureError: If more is asked for than the server gives.
    """
    answers = asked.n or 1
    if len(inputs) * answers > settings.max_texts:
        raise invalid(
            f"{len(inputs)} inputs times n={answers} are more than the {settings.max_texts} texts that a request may "
            "ask for; send several requests.",
            param="n",
        )
    longest = _SAID_NOTHING.max_new_tokens if max_tokens is None else max_tokens
    if max_tokens is None:
        longest = min(longest, settings.max_new_tokens)
    if longest > settings.max_new_tokens:
        raise invalid(
            f"max_tokens={longest} is more than this server's {settings.max_new_tokens}; ask for fewer.",
            param="max_tokens",
        )
    stop = () if asked.stop is None else tuple(each(asked.stop))
    sampling = Sampling(
        max_new_tokens=longest,
        min_new_tokens=asked.min_tokens,
        temperature=asked.temperature or 0.0,
        top_k=asked.top_k,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        repetition_penalty=asked.repetition_penalty,
        seed=asked.seed,
        stop=stop,
        logprobs=logprobs,
    )
    return [
        Request(
            input=one,
            prompt=prompt,
            sampling=sampling,
            answers=answers,
            raw=asked.raw,
            truncate=asked.truncate,
        )
        for one in inputs
    ]


def usage_of(answers: Sequence[Answer]) -> Usage:
    """Tokens of a request's inputs, of its answers, and of the soft prompts, which are counted apart."""
    inputs = sum(answer.input_tokens for answer in answers)
    said = sum(len(one.tokens) for answer in answers for one in answer.completions)
    scored = sum(answer.output_tokens for answer in answers if answer.choice is not None)
    return Usage(
        prompt_tokens=inputs,
        completion_tokens=said + scored,
        total_tokens=inputs + said + scored,
        prompt_tokens_details=Details(virtual_tokens=sum(answer.prompt_tokens for answer in answers)),
    )


def frame_of(kind: str, prefix: str, model: str, version: str | None) -> dict[str, Any]:
    """What an answer, or each piece of it, begins with.

    Args:
        kind: OpenAI's name of the object.
        prefix: What its id begins with.
        model: As it was asked for.
        version: Of the prompt that answers; None for the bare backbone.
    """
    return {
        "id": f"{prefix}-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": version,
    }


def token_text(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """A token as text, with the blank that it begins with."""
    text = str(tokenizer.decode([token]))
    piece = tokenizer.convert_ids_to_tokens(token)
    return f" {text}" if piece.startswith(("▁", " ")) and not text.startswith(" ") else text
