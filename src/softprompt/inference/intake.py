"""A request made ready to be answered: its prompt is held, its input tokenized."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from softprompt.conditioning import Prompted
from softprompt.errors import LengthError, SoftpromptError, UnknownPromptError
from softprompt.inference.encoding import encode
from softprompt.inference.jobs import Job, Way, by_name
from softprompt.inference.prompt_cache import Lease
from softprompt.inference.prompt_folder import PromptFolder
from softprompt.inference.queries import EncodedQuery, Query
from softprompt.inference.requests import Request, Ticket

__all__ = ["encode_request", "holding", "make_job", "named"]


@contextlib.contextmanager
def holding(folder: PromptFolder | None, prompt: str | Lease | None) -> Iterator[Lease | None]:
    """Hold the prompt that a request asks for, None for the bare backbone; it is given back if the block fails.

    Args:
        folder: The engine's prompts; None if it has none.
        prompt: As in `Request`.

    Raises:
        UnknownPromptError: If there is none of its name; further errors as of `PromptFolder.acquire`.
    """
    lease = _held(folder, prompt)
    try:
        yield lease
    except BaseException:
        if lease is not None and folder is not None:
            folder.release(lease)
        raise


def _held(folder: PromptFolder | None, prompt: str | Lease | None) -> Lease | None:
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
    (encoded,) = encode(model, [query])
    return encoded


def make_job(
    model: Prompted,
    request: Request,
    ticket: Ticket,
    encoded: EncodedQuery,
    lease: Lease | None,
    *,
    way: Way,
    asked_at: float,
    most_tokens: int,
    ends: frozenset[int],
) -> Job:
    """A request that can be put into the queue.

    Args:
        model: The backbone with its prompts.
        request: What is asked.
        ticket: What its answer comes by.
        encoded: Its input as tokens.
        lease: Holds its prompt.
        way: How it is answered.
        asked_at: When it was asked, by the monotonic clock.
        most_tokens: Most tokens that it may take up.
        ends: Token ids that end a text.

    Raises:
        LengthError: If it takes up more.
    """
    job = Job(
        request=request,
        ticket=ticket,
        encoded=encoded,
        lease=lease,
        deadline=None if request.deadline_s is None else asked_at + request.deadline_s,
        way=way,
        asked_at=asked_at,
        queued_at=time.monotonic(),
    )
    if job.tokens > most_tokens:
        raise LengthError(
            f"The request may take {job.tokens} tokens, but at most {most_tokens} fit here; shorten the input, or ask "
            "for fewer or shorter answers."
        )
    if way != "rank":
        job.prepare_voices(model, ends)
    return job


@contextlib.contextmanager
def named(lease: Lease | None) -> Iterator[None]:
    """Let errors name a prompt as the request does, not as the model knows it."""
    try:
        yield
    except SoftpromptError as error:
        raise by_name(error, lease) from None
