"""What a request needs of a vLLM server, asked for side by side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from softprompt.errors import ServerError
from softprompt.inference.lanes import Voice
from softprompt.serving.vllm.bodies import asked_at, chosen_in
from softprompt.serving.vllm.client import VllmClient
from softprompt.serving.vllm.ranking import Beginnings, Known

__all__ = ["ask_for_candidates", "ask_for_texts"]


async def ask_for_texts(
    client: VllmClient, voices: Sequence[Voice], bodies: Sequence[Mapping[str, Any]], *, vocab: int
) -> None:
    """Let texts grow, token by token, until each has ended.

    Args:
        client: Asks the server.
        voices: The texts.
        bodies: What is asked for each of them.
        vocab: How many token ids there are.

    Raises:
        ExceptionGroup: Of what ended one of them; the others are then given up.
    """
    async with asyncio.TaskGroup() as group:
        for voice, body in zip(voices, bodies, strict=True):
            group.create_task(_speak(client, voice, body, vocab))


async def _speak(client: VllmClient, voice: Voice, body: Mapping[str, Any], vocab: int) -> None:
    async with contextlib.aclosing(client.stream(body)) as events:
        async for event in events:
            for chosen in chosen_in(event, vocab=vocab, logprobs=body["logprobs"]):
                voice.take(chosen)
                if voice.finish is not None:  # the server may not know yet, as of stop texts
                    return
    raise ServerError("The engine behind this server ended an answer before its end; its log says why.")


async def ask_for_candidates(
    client: VllmClient, parts: Sequence[Beginnings], bodies: Sequence[Mapping[str, Any]]
) -> Known:
    """The log-probabilities that candidates are scored by.

    Args:
        client: Asks the server.
        parts: What is asked at once.
        bodies: The same as requests.

    Raises:
        ExceptionGroup: Of what prevented one of the answers.
        ServerError: If an answer is none.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.complete(body)) for body in bodies]
    known: dict[tuple[tuple[int, ...], int], float] = {}
    for part, task in zip(parts, tasks, strict=True):
        found = asked_at(task.result(), len(part.ids), part.tokens)
        known |= {(begun, token): one[token] for begun, one in zip(part.ids, found, strict=True) for token in one}
    return known
