"""A request made ready to be answered: its prompt is held, its input tokenized."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from softprompt.conditioning import Prompted
from softprompt.errors import SoftpromptError, UnknownPromptError
from softprompt.inference.jobs import by_name
from softprompt.inference.prompt_folder import Lease, PromptFolder
from softprompt.inference.queries import EncodedQuery, Query, encode_to_generate, encode_to_rank
from softprompt.inference.requests import Request

__all__ = ["encode_request", "held", "named"]


def held(folder: PromptFolder | None, prompt: str | Lease | None) -> Lease | None:
    """Hold the prompt that a request asks for; None for the bare backbone.

    Args:
        folder: The engine's prompts; None if it has none.
        prompt: As in `Request`.

    Raises:
        UnknownPromptError: If there is none of its name; further errors as of `PromptFolder.acquire`.
    """
    if prompt is None:
        return None
    if folder is None:
        name = prompt.name if isinstance(prompt, Lease) else prompt
        raise UnknownPromptError(f"There is no prompt {name[:128]!r}: this engine has no folder of prompts.")
    return folder.share(prompt) if isinstance(prompt, Lease) else folder.acquire(prompt)


def encode_request(model: Prompted, request: Request, lease: Lease | None) -> EncodedQuery:
    """Tokenize what a request asks.

    Args:
        model: The backbone with its prompts.
        request: What is asked.
        lease: Holds its prompt.

    Raises:
        ConfigError: As of `encode_to_generate` and `encode_to_rank`, and so are all others.
    """
    query = Query(
        input=request.input,
        prompt=None if lease is None else lease.prompt,
        form=None if lease is None or request.raw else lease.format,
        candidates=request.candidates,
        max_new_tokens=request.sampling.max_new_tokens,
        max_input_tokens=request.max_input_tokens,
        truncate=request.truncate,
    )
    (encoded,) = (encode_to_rank if request.candidates else encode_to_generate)(model, [query])
    return encoded


@contextlib.contextmanager
def named(lease: Lease | None) -> Iterator[None]:
    """Let errors name a prompt as the request does, not as the model knows it."""
    try:
        yield
    except SoftpromptError as error:
        raise by_name(error, lease) from None
