"""What a request needs of a vLLM server, asked for side by side."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Sequence

from softprompt.errors import ServerError
from softprompt.inference.lanes import Voice
from softprompt.serving.vllm.beginnings import Beginnings, Known
from softprompt.serving.vllm.bodies import asked_at, chosen_in
from softprompt.serving.vllm.client import VllmClient

__all__ = ["ask_for_candidates", "ask_for_texts"]

_AT_ONCE = 4
"""Requests for one answer's candidates that are on their way at a time."""


async def ask_for_texts(
    client: VllmClient, voices: Sequence[Voice], body: Callable[[int], bytes], *, vocab: int, logprobs: int | None
) -> None:
    """Let texts grow, token by token, until each has ended.

    Args:
        client: Asks the server.
        voices: The texts.
        body: What is asked for one of them, by its number; called in a thread of its own.
        vocab: How many token ids there are.
        logprobs: As they are asked for.

    Raises:
        ExceptionGroup: Of what ended one of them; the others are then given up.
    """
    async with asyncio.TaskGroup() as group:
        for number, voice in enumerate(voices):
            group.create_task(_speak(client, voice, functools.partial(body, number), vocab, logprobs))


async def _speak(client: VllmClient, voice: Voice, body: Callable[[], bytes], vocab: int, logprobs: int | None) -> None:
    async with contextlib.aclosing(client.stream(await asyncio.to_thread(body))) as events:
        async for event in events:
            for chosen in chosen_in(event, vocab=vocab, logprobs=logprobs):
                voice.take(chosen)
                if voice.finish is not None:  # the server may not know yet, as of stop texts
                    return
    raise ServerError("The engine behind this server ended an answer before its end; its log says why.")


async def ask_for_candidates(
    client: VllmClient, parts: Sequence[Beginnings], body: Callable[[Beginnings], bytes]
) -> Known:
    """The log-probabilities that candidates are scored by, a few requests at a time.

    Args:
        client: Asks the server.
        parts: What is asked in one request each.
        body: Such a request, made when its turn has come; called in a thread of its own.

    Raises:
        ExceptionGroup: Of what prevented one of the answers, or if one is none.
    """
    known: dict[tuple[tuple[int, ...], int], float] = {}
    room = asyncio.Semaphore(_AT_ONCE)

    async def ask(part: Beginnings) -> None:
        async with room:
            answer = await client.complete(await asyncio.to_thread(body, part))
        found = asked_at(answer, len(part.ids), part.tokens)
        known.update({(begun, token): one[token] for begun, one in zip(part.ids, found, strict=True) for token in one})

    async with asyncio.TaskGroup() as group:
        for part in parts:
            group.create_task(ask(part))
    return known
